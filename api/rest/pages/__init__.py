"""Templates and style of the few pages of this door; the portal comes with a later issue."""
