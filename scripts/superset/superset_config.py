"""Superset on loopback, for scripts/bi-superset.sh: metadata in SQLite. With SUPERSET_PUBLIC_ROLE whoever reaches it has that
role, for a browser without a login; its REST API takes nobody for the user who logged in then."""

import os

SECRET_KEY = os.environ["SUPERSET_SECRET"]
SQLALCHEMY_DATABASE_URI = f"sqlite:///{os.environ['SUPERSET_HOME']}/superset.db"
AUTH_ROLE_PUBLIC = os.environ.get("SUPERSET_PUBLIC_ROLE", "Public")
WTF_CSRF_ENABLED = False
TALISMAN_ENABLED = False
