"""Share a pruned policy: its card, and its way to the Hugging Face Hub and back."""

from kanbatsu.hub.card import card
from kanbatsu.hub.sharing import from_hub, push_to_hub

__all__ = ["card", "from_hub", "push_to_hub"]
