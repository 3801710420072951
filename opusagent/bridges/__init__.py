"""Shells: they run the effects of a call over byte pipes, and decide nothing about telephony."""
