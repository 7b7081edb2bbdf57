"""The live service: `mkmsr serve` answers a shop's sessions over HTTP while their events come in."""
