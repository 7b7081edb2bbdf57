"""COMPASS: composed item vectors, copies of the past and similar sessions, as one mixture."""
