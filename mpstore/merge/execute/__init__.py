"""Executing a plan: read exactly its blocks, establish facts, apply the operator, write what is new."""
