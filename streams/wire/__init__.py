"""Where: the outside world, each piece behind a small protocol (DNS, SMTP, scanners)."""
