"""How long a hub's pages take once a year of hourly windows of a whole fleet lies in its database."""
