"""Everything that one machine needs to run the whole product: broker, engine, DNS, mailboxes, scanner, supervisor."""
