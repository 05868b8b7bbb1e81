"""Who must not be written to, as every process knows it: mail.suppressions followed into a local RocksDB view."""
