"""Runnable fakes of both ends: a caller behind AudioCodes, and Nova Sonic; strict, and part of the product."""
