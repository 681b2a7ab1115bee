"""ChatEncoder against four kinds of template, with tokenizers built here."""

import pytest
from transformers import PreTrainedTokenizerFast

from chat_templates import CHATML, DOUBLE_BOS, DROPS_SYSTEM, GEMMA, LLAMA3, NO_END, make
from grpo_dual.errors import ModelError
from grpo_dual.prompts.chat import ChatEncoder
from grpo_dual.types import Message

CHAT = (Message("system", "Be brief."), Message("user", "Who was it?"))


def render(tokenizer: PreTrainedTokenizerFast, ids: tuple[int, ...]) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=False)


def test_llama3_style_ids_are_the_template_with_one_bos() -> None:
    # The tokenizer's post-processor adds BOS too, which is how double BOS arises.
    tokenizer = make(LLAMA3, adds_bos=True)
    encoder = ChatEncoder(tokenizer)
    ids = encoder.encode(CHAT)
    assert render(tokenizer, ids) == (
        "<s><|start|>system<|end|>\n\nBe brief.<|eot|><|start|>user<|end|>\n\nWho was it?<|eot|>"
        "<|start|>assistant<|end|>\n\n"
    )
    assert ids.count(tokenizer.bos_token_id) == 1
    assert not encoder.merges_system


def test_end_of_turn_is_found_and_comes_before_the_tokenizers_eos() -> None:
    tokenizer = make(LLAMA3)
    eot = tokenizer.convert_tokens_to_ids("<|eot|>")
    extra = tokenizer.convert_tokens_to_ids("<|im_end|>")
    encoder = ChatEncoder(tokenizer, generation_eos_ids=(eot, extra))
    assert encoder.eos_ids == (eot, tokenizer.eos_token_id, extra)
    assert encoder.encode_completion("yes")[-1] == eot
    assert render(tokenizer, encoder.encode_completion("yes")) == "yes<|eot|>"


def test_chatml_has_no_bos_and_ends_with_im_end() -> None:
    tokenizer = make(CHATML, bos=None, eos="<|im_end|>")
    encoder = ChatEncoder(tokenizer)
    assert render(tokenizer, encoder.encode(CHAT)).startswith("<|im_start|>system\nBe brief.")
    assert encoder.eos_ids == (tokenizer.convert_tokens_to_ids("<|im_end|>"),)


@pytest.mark.parametrize("template", [GEMMA, DROPS_SYSTEM])
def test_system_text_goes_into_the_first_user_turn_where_there_is_no_system_role(
    template: str,
) -> None:
    tokenizer = make(template)
    encoder = ChatEncoder(tokenizer)
    assert encoder.merges_system
    assert "Be brief.\n\nWho was it?" in render(tokenizer, encoder.encode(CHAT))
    assert "Be brief." in render(tokenizer, encoder.encode(CHAT[:1]))
    # Without a system turn nothing is changed.
    assert "\n\n" not in render(tokenizer, encoder.encode(CHAT[1:]))


def test_gemma_ends_with_end_of_turn_and_a_template_with_eos_ends_with_eos() -> None:
    gemma, plain = make(GEMMA), make(DROPS_SYSTEM)
    assert ChatEncoder(gemma).eos_ids[0] == gemma.convert_tokens_to_ids("<end_of_turn>")
    assert ChatEncoder(plain).eos_ids == (plain.eos_token_id,)


def test_a_template_that_writes_bos_twice_is_mended() -> None:
    tokenizer = make(DOUBLE_BOS, adds_bos=True)
    ids = ChatEncoder(tokenizer).encode(CHAT)
    assert ids == ChatEncoder(make(LLAMA3)).encode(CHAT)


def test_a_silent_template_gets_the_bos_that_its_tokenizer_would_add() -> None:
    with_bos = make(CHATML, adds_bos=True)
    assert ChatEncoder(with_bos).encode(CHAT)[0] == with_bos.bos_token_id
    # A tokenizer that never adds its BOS (Qwen) is left alone.
    without = make(CHATML)
    assert without.bos_token_id not in ChatEncoder(without).encode(CHAT)


def test_ids_are_concatenated_so_a_reply_never_changes_the_prompt() -> None:
    tokenizer = make(LLAMA3, adds_bos=True)
    encoder = ChatEncoder(tokenizer)
    whole = (*encoder.encode(CHAT), *encoder.encode_completion("(b) The grandson"))
    assert whole.count(tokenizer.bos_token_id) == 1
    assert render(tokenizer, whole).endswith("assistant<|end|>\n\n(b) The grandson<|eot|>")


def test_decode_leaves_out_control_tokens_and_outer_blanks() -> None:
    encoder = ChatEncoder(make(LLAMA3))
    assert encoder.decode(encoder.encode_completion(" The café. ")) == "The café."
    assert encoder.decode(()) == ""


def test_pad_is_the_tokenizers_own_or_else_eos() -> None:
    own = make(LLAMA3, pad="<pad>")
    assert ChatEncoder(own).pad_id == own.pad_token_id
    none = make(LLAMA3)
    assert ChatEncoder(none).pad_id == none.eos_token_id
    no_eos = make(LLAMA3, eos=None)
    assert ChatEncoder(no_eos).pad_id == no_eos.convert_tokens_to_ids("<|eot|>")


def test_a_missing_template_says_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"no chat template.*chat_template\.jinja"):
        ChatEncoder(make(None))


def test_a_chat_without_any_end_is_refused() -> None:
    with pytest.raises(ModelError, match="names a token that ends a reply"):
        ChatEncoder(make(NO_END, eos=None))


def test_a_template_that_refuses_replies_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot render a user turn"):
        ChatEncoder(make("{{ raise_exception('closed') }}"))


def test_roles_that_the_template_refuses_are_named() -> None:
    only_user = (
        "{% for m in messages %}{% if m['role'] == 'tool' %}{{ raise_exception('no tools') }}"
        "{% endif %}{{ m['content'] }}<|eot|>{% endfor %}"
    )
    with pytest.raises(ModelError, match=r"refuses the turns \(tool\): no tools"):
        ChatEncoder(make(only_user)).encode((Message("tool", "x"),))
