"""The REST door: the native API and the Retarus-compatible job interface."""
