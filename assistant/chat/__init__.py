"""Talk about a capture: one checked reply to each question, with what is in focus kept."""

from assistant.chat.conversation import Conversation, Reply

__all__ = ["Conversation", "Reply"]
