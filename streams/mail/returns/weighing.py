"""Of everything a returned mail says about one recipient, what counts.

The far host's own words come first, then a telling enhanced code, then what the reporter says in its own words. A reporter's
prose often lists what *could* be wrong; so it is asked only when the answer itself does not say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from depesche.schemas.reply_classes import CLASS_MEANING, Kind, ReplyClass
from depesche.streams.mail.classify import Basis, Classified, default_rules
from depesche.streams.mail.patterns import pattern
from depesche.streams.mail.returns.phrases import phrases
from depesche.streams.mail.returns.replies import MAX_REPLY, read_reply, spoken
from depesche.streams.mail.returns.report import Action, Reply

_MAX_EVIDENCE: Final = 24
_REPLY_LINE = pattern(r"(?:^|[\s:;<\[(\"'>=])#?([245]\d\d[ -]\s*\S.*)")
_NOISE = pattern(
    r"need (?:rcpt|recipient|mail)|no valid recipients|bad sequence|^5\d\d (?:5\.0\.0 )?(?:<\S*>\.\.\. )?service unavailable$"
)
_TAKEN: Final = (Action.DELIVERED, Action.RELAYED, Action.EXPANDED)


@dataclass(frozen=True, slots=True)
class Weighed:
    """The answer that counts, and its verdict."""

    reply: Reply
    verdict: Classified


def weigh(answers: Iterable[Reply], near: Iterable[str], far: Iterable[str], action: Action) -> Weighed:
    """The answer that counts.

    Args:
        answers: what far hosts said about this recipient, the surest first.
        near: what the reporter says beside the recipient, in its own words.
        far: what it says elsewhere; it may only list what could be wrong.
        action: what happened; a delay is never hard, a delivery is no bounce.
    """
    best: Weighed | None = None
    for reply, ceiling in _in_order(answers, near, far):
        said = _classified(reply)
        if said.reply_class is ReplyClass.DELIVERED and action not in _TAKEN:
            # An earlier step of the conversation, quoted along with the refusal.
            continue
        found = Weighed(reply, replace(said, basis=min(said.basis, ceiling)))
        if best is None or found.verdict.basis > best.verdict.basis:
            best = found
        if best.verdict.basis >= Basis.WORDS:
            break
    if best is not None and best.verdict.basis < Basis.ENHANCED:
        # What was read from afar is no ground to give an address up.
        best = Weighed(best.reply, replace(best.verdict, suppress=False))
    best = best or Weighed(Reply(), default_rules().classify(0, "", ""))
    return Weighed(best.reply, _for_action(best.verdict, action))


def quoted_replies(text: str, address: str) -> list[str]:
    """The replies that a text quotes line by line, those that name the address first."""
    found = [reply for reply in _replies(text.split("\n")[:400]) if _NOISE.search(reply) is None][:_MAX_EVIDENCE]
    return sorted(found, key=lambda line: address.lower() not in line.lower()) if address else found


def what_happened(text: str, subject: str) -> Action:
    """Whether a text tells of a failure, a delay or a delivery."""
    known = phrases()
    words = f"{subject}\n{text}"
    if known.delays.search(words) is not None:
        return Action.DELAYED
    if known.deliveries.search(words) is not None and known.failures.search(text) is None:
        return Action.DELIVERED
    return Action.FAILED


def _replies(lines: list[str]) -> Iterator[str]:
    """Replies of one line, and those of several (``550-...`` up to ``550 ...``, RFC 5321 4.2.1) as the one that they are."""
    reply: list[str] = []
    for line in lines:
        match = _REPLY_LINE.search(line)
        said = match[1].strip() if match is not None else ""
        if reply and not said.startswith(reply[0][:3]):
            yield "\n".join(reply)
            reply = []
        if said:
            reply.append(said)
        if reply and (said[3:4] != "-" or len(reply) >= _MAX_EVIDENCE):
            yield "\n".join(reply)
            reply = []
    if reply:
        yield "\n".join(reply)


def _in_order(answers: Iterable[Reply], near: Iterable[str], far: Iterable[str]) -> Iterator[tuple[Reply, Basis]]:
    """Everything that was said, each thing once, with the firmness it can have at most."""
    seen: set[str] = set()
    for reply in answers:
        yield reply, Basis.WORDS
        seen.add(reply.text)
    said = [(text, Basis.ENHANCED) for text in near] + [(text, Basis.VAGUE) for text in far]
    for text, ceiling in said[:_MAX_EVIDENCE]:
        words = text.strip()[: 4 * MAX_REPLY]
        quoted = spoken(words)
        if quoted and quoted not in seen:
            seen.add(quoted)
            around = read_reply(words)
            yield read_reply(quoted, host=around.host, phase=around.phase), Basis(min(ceiling + 1, Basis.WORDS))
        if words and words not in seen:
            seen.add(words)
            yield read_reply(words), ceiling


def _classified(reply: Reply) -> Classified:
    rules = default_rules()
    return rules.classify(reply.code, reply.enhanced, reply.text, rules.provider_of(reply.host), reply.phase)


def _for_action(found: Classified, action: Action) -> Classified:
    if action in _TAKEN:
        kind = CLASS_MEANING[ReplyClass.DELIVERED].kind
        return Classified(ReplyClass.DELIVERED, kind, f"action:{action}", False, Basis.WORDS)
    if action is not Action.DELAYED:
        return found
    if found.reply_class in (ReplyClass.UNCLASSIFIED, ReplyClass.DELIVERED):
        return Classified(ReplyClass.EXPIRED, Kind.SOFT, "action:delayed", False, found.basis)
    # It is still being tried: whatever was answered so far, nobody has given up.
    return replace(found, kind=Kind.SOFT if found.kind is Kind.HARD else found.kind, suppress=False)
