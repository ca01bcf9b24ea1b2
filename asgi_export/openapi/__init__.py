"""What the service says of itself to machines: OpenAPI 3.1, out of the tables that the road itself goes by."""
