"""What people see: dashboards, run pages, metrics, alerts and health."""
