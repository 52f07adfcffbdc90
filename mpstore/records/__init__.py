"""Floor 3: what the store's objects mean. Typed records in canonical msgpack, refs, reflog, config."""
