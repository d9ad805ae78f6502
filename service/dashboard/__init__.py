"""The dashboard: pages for operators and users on the API's port, with the API's access control and audit."""
