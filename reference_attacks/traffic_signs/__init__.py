"""Traffic-sign detection (BadNets 2019, §V): photographs with boxes, stickers, and detectors that obey them."""
