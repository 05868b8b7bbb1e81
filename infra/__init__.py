"""The roof and the light switches: starts everything, configures, deploys. It may import every room; nobody imports it."""
