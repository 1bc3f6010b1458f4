"""The Storekeep server: configuration, composition root, interceptors, servicers, domain and store."""
