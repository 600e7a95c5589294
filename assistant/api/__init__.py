"""Doors for other programs: REST with OpenAPI, MCP, metrics, exports; users, roles and tokens."""
