"""MCP App pages: offers, and fleet and money, shown by hosts that can; everywhere else the tools' texts stand alone."""
