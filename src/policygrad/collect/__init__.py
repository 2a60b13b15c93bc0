"""Who plays: the same two functions each way."""

from policygrad.collect.xla import Collector, episode_collector, window_collector

__all__ = ["Collector", "episode_collector", "window_collector"]
