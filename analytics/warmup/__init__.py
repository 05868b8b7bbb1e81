"""What own addresses that are warming up have sent, as couriers and operators read it."""
