"""Orders from placing to fulfilment, their changes, history and imports."""
