"""Commands on machines: asked for, followed live, answered once."""
