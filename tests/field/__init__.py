"""What real files, databases, clients and frameworks broke, one file a kind of fault."""
