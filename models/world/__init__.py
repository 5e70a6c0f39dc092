"""The simulated world: users, items, a logging policy, clicks and purchases, and the exact truth about all of them."""

from models.world.day import DAY, Day, Requests, Shown, answered, bought_within, draw_day, draw_requests, show
from models.world.world import DEVICES, REGIONS, SURFACES, World

__all__ = [
    "DAY",
    "DEVICES",
    "REGIONS",
    "SURFACES",
    "Day",
    "Requests",
    "Shown",
    "World",
    "answered",
    "bought_within",
    "draw_day",
    "draw_requests",
    "show",
]
