"""The functions of the commands of `storekeep-server`. A command imports its module only."""
