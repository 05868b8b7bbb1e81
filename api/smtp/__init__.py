"""The SMTP door: authenticated submission on 2587 and 2465."""
