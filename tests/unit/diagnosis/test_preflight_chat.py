"""A chat template that is not the model's, and right replies that are not read as such."""

import dataclasses
import math

import pytest
from transformers import PreTrainedTokenizerFast

import short_runs
import tiny_models
from chat_templates import CHATML, DROPS_SYSTEM, GEMMA, LLAMA3, NO_END, make
from grpo_dual.config.schema import ModelConfig
from grpo_dual.diagnosis.preflight_chat import Reply, chat_format, parser_mismatch
from grpo_dual.model.loading import load_spoken
from grpo_dual.prompts.chat import ChatEncoder
from grpo_dual.types import Finding, Severity

MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} "
    "[/INST]{% elif m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}{% else %}"
    "{{ raise_exception('Only user and assistant roles') }}{% endif %}{% endfor %}"
)
# Thinks before every reply of the past, and is asked to think in the prompt's end.
THINKS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
    "<think>\n\n</think>\n\n{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def found(
    tokenizer: PreTrainedTokenizerFast, generation_eos_ids: tuple[int, ...] = ()
) -> tuple[Finding, ...]:
    encoder = ChatEncoder(tokenizer, generation_eos_ids=generation_eos_ids)
    return chat_format(encoder, tokenizer, generation_eos_ids)


@pytest.mark.parametrize("template", [LLAMA3, CHATML, GEMMA, MISTRAL, DROPS_SYSTEM, THINKS])
@pytest.mark.parametrize("adds_bos", [False, True])
def test_the_usual_templates_are_sound(template: str, adds_bos: bool) -> None:
    assert found(make(template, adds_bos=adds_bos)) == ()


def test_the_embedded_model_is_spoken_to_in_its_own_format() -> None:
    spoken = load_spoken(ModelConfig())
    assert spoken.generation_eos_ids == (5,)
    assert spoken.window == 1024
    assert found(spoken.tokenizer, spoken.generation_eos_ids) == ()


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (
            LLAMA3.replace("{% if add_generation_prompt %}", "{% if false %}"),
            "it has no generation prompt: '<|start|>assistant<|end|>\\n\\n' stands before a reply",
        ),
        (
            CHATML.replace("{{ m['role'] }}", "person"),
            "its roles look alike",
        ),
        (
            CHATML.replace("{{ m['content'] }}", "{% if loop.last %}{{ m['content'] }}{% endif %}"),
            "it leaves out what is said",
        ),
        (
            # Another model's control token: to this tokenizer it is text.
            CHATML.replace("<|im_end|>", "<|eot_id|>"),
            "it writes <|eot_id|>, which is no token of this tokenizer but 10 pieces",
        ),
        (
            LLAMA3.replace(
                "{{ bos_token }}",
                "{% if messages|length > 2 %}{{ raise_exception('one turn only') }}{% endif %}",
            ),
            "it cannot render a user turn, a reply and a user turn: one turn only",
        ),
    ],
)
def test_a_template_that_is_certainly_wrong(template: str, why: str) -> None:
    act = [f for f in found(make(template)) if f.severity is Severity.ACT]
    assert [f.code for f in act] == ["wrong-chat-template"]
    assert any(why in line for line in act[0].evidence), act[0].evidence


def test_roles_that_a_tokenizer_cannot_write_look_alike_too() -> None:
    """Every word of the template is unknown to this tokenizer."""
    tokenizer = tiny_models.tokenizer()
    tokenizer.chat_template = short_runs.TEMPLATE
    (act,) = [f for f in found(tokenizer) if f.severity is Severity.ACT]
    assert "its roles look alike" in act.evidence[0]


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (
            LLAMA3.replace("{% for m in messages %}", "{% for m in messages %}{{ bos_token }}"),
            "holds its beginning-of-sequence token 2 times",
        ),
        (NO_END + "{% if add_generation_prompt %}assistant: {% endif %}", "by no control token"),
    ],
)
def test_a_template_to_look_at_again(template: str, why: str) -> None:
    (doubt,) = found(make(template, adds_bos=True))
    assert (doubt.code, doubt.severity) == ("wrong-chat-template", Severity.WARN)
    assert why in doubt.evidence[0]


def test_a_model_that_stops_elsewhere() -> None:
    tokenizer = make(CHATML)
    end, other = (tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|eot|>"))
    assert found(tokenizer, (other, end)) == ()
    (doubt,) = found(tokenizer, (other,))
    assert doubt.severity is Severity.WARN
    assert doubt.evidence == (
        f"it ends a reply with <|im_end|> ({end}), the model's generation_config.json stops at "
        f"<|eot|> ({other})",
    )


REPLY = Reply(
    record_id="bbq/Age/1",
    kind="disambig",
    target="The grandson",
    decoded="The grandson",
    same=True,
    earned=1.0,
    best=1.0,
)


def test_replies_that_are_read_and_paid() -> None:
    unjudged = dataclasses.replace(REPLY, earned=None)
    assert parser_mismatch("f", [REPLY, unjudged]) == ()
    # A table that pays no more for right than for wrong: no parser is to blame.
    flat = dataclasses.replace(REPLY, earned=0.0, best=math.inf)
    assert parser_mismatch("f", [flat]) == ()
    assert parser_mismatch("f", []) == ()


@pytest.mark.parametrize(
    ("bad", "severity"), [(1, Severity.NOTE), (2, Severity.WARN), (20, Severity.ACT)]
)
def test_replies_that_the_tokenizer_loses(bad: int, severity: Severity) -> None:
    lost = dataclasses.replace(REPLY, decoded="w0 w0", same=False, earned=-1.0)
    (found,) = parser_mismatch("f", [lost] * bad + [REPLY] * (100 - bad))
    assert (found.code, found.severity) == ("parser-mismatch", severity)
    assert found.evidence[0] == f"{bad} of 100 right replies ({bad / 100:.1%})"
    assert "bbq/Age/1 (disambig): 'The grandson' comes back as 'w0 w0'" in found.evidence


def test_replies_that_are_not_paid_in_full() -> None:
    unpaid = dataclasses.replace(REPLY, earned=-1.0)
    (found,) = parser_mismatch("f", [unpaid] * 5)
    assert found.severity is Severity.ACT
    assert found.evidence[1] == "bbq/Age/1 (disambig): 'The grandson' earns -1 of 1"
    assert len(found.evidence) == 4, "three records are shown"
