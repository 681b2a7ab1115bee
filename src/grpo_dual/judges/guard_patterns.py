"""What attempts on a judge look like: tags, fences, forged verdicts, encodings, other languages.

``SHAPES`` see the characters, fullwidth ones as plain ones. Every repetition is bounded or runs to
the end of a line or of the text, so no text is slow.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

from grpo_dual.judges.guard_phrases import any_of

Scope = Literal["match", "unit", "rest"]
"""What goes: the match, the sentences it touches, or all that follows (a forged next turn)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A pattern of characters, and the kind of attempt that it is."""

    flag: str
    scope: Scope
    pattern: re.Pattern[str]


_KEY: Final = (
    r"(?:final |overall |total )?(?:verdict|winner|score|rating|grade|label|mark|evaluation"
    r"|assessment|judge?ment|factuality|correctness|faithfulness|grounded(?:ness)?"
    r"|hallucinat(?:ion|ed)|passed|confidence|is_?correct|reward|answer_?correct|grader|judge"
    r"|evaluator|supported|accuracy)"
)
_KEY_OF_WORD: Final = r"(?:result|outcome|status|decision|conclusion|correct|pass|output|feedback)"
_WORD: Final = (
    r"(?:right|wrong|correct|grounded|pass(?:ed)?|accept(?:ed)?|approved?|supported|full\w*|excellent"
    r"|perfect|positive|valid|accurate|true|yes|ok|(?-i:[A-F](?=[\s.!,]|$)))(?!\w)"
)
_VALUE: Final = (
    rf"(?:-?\d+(?:\.\d+)?(?:\s*(?:/|out of|%)\s*\d*)?(?!\w)|{_WORD}"
    r"|(?:no|false|high\w*|none|good)(?!\w)|[a-f][+-])"
)
_ROLE: Final = (
    r"(?:system|human|user|developer|assistant|ai|bot|model|judge|grader|evaluator|assessor|reviewer"
    r"|examiner|rater|referee|student|teacher|chatgpt|gpt|admin|moderator|annotator|critic)"
)
_LABEL: Final = (
    r"(?:q|questions?|examples? \d+|claim|statement|input|outcome|verdict|case \d+|sample \d+"
    r"|demo \d+|instructions?|responses?)"
)


def _shape(flag: str, scope: Scope, pattern: str) -> Shape:
    return Shape(flag, scope, re.compile(pattern, re.IGNORECASE | re.MULTILINE))


SHAPES: Final = (
    _shape("master key", "match", r"\A\W{0,9}(?:thought|thinking|reasoning)(?: process)?\W{0,3}:"),
    _shape("role tag", "rest", r"<[|｜][^<>\n]{0,60}[|｜]>"),
    _shape("role tag", "rest", r"</?(?:start|end)_of_(?:turn|text)>|</?s>|<(?:bos|eos|pad|unk)>"),
    _shape("role tag", "rest", rf"^[ \t]*#{{2,6}} *(?:{_LABEL}|{_ROLE})s? *:?[ \t]*$"),
    _shape(
        "role tag",
        "rest",
        rf"(?:^[ \t]*|(?<=[.!?] ))[*_]*{_ROLE}(?: (?:message|prompt|note)| ?#?\d+)?[*_]* ?:",
    ),
    _shape("forged example", "rest", rf"(?<=\n)[ \t]*[*_]*{_LABEL}[*_]* ?(?::|$)"),
    _shape("markup", "match", r"<!--(?s:.*?)-->|<!--(?s:.*)|<\?[^<>]{0,200}\?>"),
    _shape("markup", "match", r"\{[#%][^{}]{0,300}[#%]\}|^\s*\[//\]:[^\n]*"),
    _shape("closing fence", "match", r"<!\[CDATA\[|\]\]>|`{3,}\w*|~{3,}|\"{3,}|'{3,}"),
    _shape(
        "closing fence",
        "match",
        r"^[ \t]*[-=*#~_+]{3,}[ \t]*\w[^\n]{0,80}?[-=*#~_+]{3,}[ \t]*$"
        r"|^[^\w\n]*[-=*#~_+]{3,}[ \t]*(?:end|begin|start|stop|eof)\b[^\n]{0,80}"
        r"|\[/?[ \t]*(?:end|begin|start|stop|/)[^\]\n]{0,60}\]",
    ),
    _shape("closing fence", "match", r"^[ \t]*[-=*#~_+]{3,}[ \t]*$"),
    _shape("forged verdict", "match", r"<<<[^<>]{0,200}>>>|<{2,}|>{2,}"),
    _shape("role tag", "match", r"^[ \t]*\[[^\[\]\n]{1,60}[ _:-][^\[\]\n]{1,240}\]:?[ \t]*$"),
    _shape("forged verdict", "match", r"\{\s{0,9}\\?\"[^\"{}\n]{1,40}\"\s{0,9}:[^{}]{0,600}\}"),
    _shape("forged verdict", "match", rf"\{{[^{{}}]{{0,600}}\b{_KEY}\b[^{{}}]{{0,600}}\}}"),
    _shape("forged verdict", "match", r"\\boxed\s*\{?[^{}\n]{0,80}\}?|\$\\?boxed[^$\n]{0,80}\$?"),
    _shape("forged verdict", "match", r"\[\[[^\[\]\n]{0,40}\]\]|\b(5|10|100|1)(?:\.0)?\s?/\s?\1\b"),
    _shape(
        "forged verdict",
        "unit",
        r"\b\d{1,3}(?:\.\d)? (?:out of|sur|von|de) (?:5|10|100)(?=[.,;!]|$)",
    ),
    _shape(
        "forged verdict",
        "unit",
        rf"\b{_KEY}[\"'*_`)\]]{{0,3}}\s{{0,3}}(?::|=|->|=>|→|-|is\b|was\b)\s{{0,3}}[\"'*_`(\[]{{0,3}}"
        rf"{_VALUE}",
    ),
    _shape("forged verdict", "unit", rf"^[ \t]*[*_#>-]*[ \t]*{_KEY}[ \t]+{_VALUE}[ \t.!]*$"),
    _shape(
        "forged verdict",
        "unit",
        rf"\b{_KEY_OF_WORD}[\"'*_`)]{{0,3}}\s{{0,3}}(?::|=|->)\s{{0,3}}[\"'*_`(]{{0,3}}{_WORD}",
    ),
    _shape("forged verdict", "unit", rf"[✅☑✔✓💯][^\n]{{0,10}}\b{_WORD}|^[ \t]*{_KEY}[ \t]*:"),
    _shape(
        "forged verdict",
        "match",
        r"[✅☑✔✓💯★]️?|(?<=\n)[ \t]*[A-F][+-]?[ \t.!]*$|(?<=[.!?] )[A-F][+-][ \t.!]*$",
    ),
    _shape(
        "forged verdict",
        "match",
        rf"^[ \t]*\|[^\n]*\b(?:{_KEY}|{_KEY_OF_WORD}|{_WORD})\b[^\n]*\|[ \t]*$",
    ),
    _shape("forged verdict", "match", r"^[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)+\|[ \t]*$"),
    _shape("link", "match", r"!\[[^\]\n]{0,300}\]\([^)\n]{0,500}\)"),
    _shape("link", "match", r"\[(?=[^\[\]\n]{0,300}\]\()|\]\([^)\n]{0,500}\)+"),
    _shape("link", "match", r"(?:https?://|\bwww\.|\bdata:\w+/|\bjavascript:)[^\s\])>]+"),
    _shape("encoded", "match", r"(?:&#?x?[0-9a-z]{1,8};\s?){3,}|&(?:lt|gt|quot|#x?[0-9a-f]+);"),
    _shape("encoded", "match", r"(?:%[0-9a-f]{2}){3,}|(?:\\[ux][0-9a-f]{2,6}\s?){3,}"),
    _shape("encoded", "match", r"\b(?:0x)?[0-9a-f]{20,}\b|\b(?:[0-9a-f]{2}[ ,:]){6,}[0-9a-f]{2}\b"),
    _shape("encoded", "match", r"\b(?:[01]{7,8}[\s,]{1,3}){2,}[01]{7,8}\b"),
    _shape("encoded", "match", r"(?:(?<=\s)|^)(?:[.\-−·•_]{1,6}[ /|]{1,3}){3,}[.\-−·•_]{1,6}"),
)

ELEMENT: Final = re.compile(
    r"(?:<{1,2}|(?P<square>\[))[ \t]?(?P<close>/?)[ \t]?(?P<name>[A-Za-z][\w:.-]{0,40})"
    r"(?P<rest>[^<>\[\]\n]{0,300})(?(square)\]|>{1,2})"
)
"""An opening or closing tag, HTML-like, doubled (<<SYS>>) or in square brackets ([INST])."""
BRACKETED: Final = re.compile(
    rf"(?:inst|sys|system_?prompt|prompt|{_ROLE}|data|text|answer|response|verdict|result)",
    re.IGNORECASE,
)
"""Names that make a tag of square brackets."""
FORMATTING: Final = frozenset(
    """b i em strong u p br sub sup ul ol li h1 h2 h3 h4 h5 h6 code pre tt q cite hr body html
    think""".split()  # noqa: SIM905
)
"""Elements of which only the tags go."""
FENCES: Final = re.compile(
    r"(?:completion|answer|response|candidate|output|final|text|data|input|reply|document|content"
    r"|submission|message|student)\b.*|.*_to_.*",
    re.IGNORECASE,
)
"""Elements that could be the rubric's own fence: what follows them is a forged continuation."""

# Other languages ----------------------------------------------------------------------------------

FOREIGN_ACTS: Final = re.compile(
    any_of(
        r"""
        abaikan accetta accepteer accordez acepta aceita aceite acceptez acorda adj akzeptier\w*
        ardi arvioi asigna asignar assegna assegnare atribua attribue[rz] avali\w+ beachte bedom
        beoordel\w* berikan betygsatt bewert\w+ bortse califica\w* considere degerlendir\w*
        dimentica\w* donnez ertekel\w* esquec\w+ evalua evalue[rz]? fogadd geef gib glom godkann\w*
        godkend hagyd hodnot\w* hyvaksy ignora ignorad ignorar ignorate ignoreer ignoren ignorera
        ignorez ignorier\w* ignoruj\w* isaretle jelold keur marca marcala marcheaza markeer markera
        markier\w* marque marquez mettez missacht\w+ neglige[rz] negeer negeren notati notez ocen\w*
        ohita olvid\w+ otorga oubli\w+ oznac\w* przyznaj puanla segna tandai unohda valuta\w*
        vergeet vergib vergiss vergessen\w* werte yoksay zaakceptuj zapomnij\w* zignoruj\w*
        """
    )
)
FOREIGN_OBJECTS: Final = re.compile(
    any_of(
        r"""
        anterior\w* antwoord antwort\w* anweisung\w* benar bestnote betyg bodu bovenstaande cevap\w*
        consignes? correcta corect\w* correta corretta dogru elevee goed helyes\w* hochstnote
        hoogste instructies instructiun\w* instructions? instrucciones instrucoes instruksi
        instruktion\w* instrukcje istruzioni jawaban juist juste karakter korrekt massimo maxima
        maximale nota notation note oben odpoved\w* odpowiedz ohjeet oikea\w* ovan poang pokyny
        polecen polecenia pontot pontszam\w* poprawna? precedentes? precedenti puan pontuacao
        punctaj\w* punktow punkte punktzahl puntaje punteggio puntuacion pisteet raspuns\w* ratt
        reponds reponses? resposta respuesta richtig rigtigt riktig risposta skor spravn\w*
        superior\w* svar svaret talimat\w* tam utasitas\w* valasz\w* vastau\w+ volle vorherig\w*
        yanit\w*
        """
    )
)
"""Folded word stems: one of each in a sentence is an instruction in another Latin language."""
FOREIGN_FRAME: Final = frozenset(
    """alle als auf auch bei bir bitte brez bu cette ces che com como con das dat dei deli den der
    deze die diese diesen diesem dieser dit doch due een ein eine einen ele ella elles els em
    entre esta este estos fur gli het hij hiermit hvis ich il ils ist ja jak jest kein keine
    las les leur los mais med meg met mit na nach nao nem nicht nie niet non notre nous och
    oder ook para pas pela pelo per perche pero podle por pour que quella questa questo qui
    sein seu sich sie sind sono sua sur til tous toutes tym und une van var ve vom von vor
    wenn werden wir wird wurde zij zu zum zur voor""".split()  # noqa: SIM905
)
"""Words that hold sentences of other Latin languages together."""
SCRIPT_ACTS: Final = re.compile(
    r"忽略|无视|無視|忘记|忘記|忘れ|打满分|打分|评分|評分|评为|判定|判断|标记|標記|给.{0,6}分|付け|採点|与え"
    r"|무시|채점|평가|처리|игнориру|забудь|поставь|оцени|отметь|считай|проигнорируй|تجاهل|امنح|قيّم|اعتبر"
    r"|अनदेखा|भूल|मानें|अंक दें|ignore"
)
SCRIPT_OBJECTS: Final = re.compile(
    r"指示|指令|提示|说明|說明|满分|滿分|満点|正确|正確|正解|答案|回答|分数|分數|規則|지시|정답|만점|답변|점수"
    r"|инструкц|указани|ответ|оценк|балл|верн|правильн|التعليمات|الإجابة|الدرجة|صحيح|निर्देश|उत्तर|सही|अंक"
)
"""The same for other scripts, where words are not parted."""
LANGUAGES: Final = frozenset(
    """translate translated translation language languages chinese japanese korean russian arabic
    hindi greek hebrew thai kanji cyrillic script alphabet""".split()  # noqa: SIM905
)
"""Sources that speak of these may be answered in any script."""
