"""The database: tables' base, units of work in threads, migrations."""
