"""A POST that is sent twice under one `Idempotency-Key` is done once and answered twice."""
