"""What an attempt on a judge looks like: tags, forged verdicts, phrases and the judge's vocabulary.

Three kinds of pattern. ``SHAPES`` see the characters. ``PHRASES`` see a stream of folded words with
one space between them and ``|`` where a sentence begins, so punctuation cannot part what belongs
together; their gaps are bounded, so no text makes them slow. ``rank`` knows single words: strong
ones belong to judging alone, weak ones are everyone's and count only together.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

Scope = Literal["match", "unit", "rest"]
"""What goes: the match, the sentences it touches, or all that follows (a forged next turn)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A pattern of characters."""

    flag: str
    scope: Scope
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Phrase:
    """A pattern of words."""

    flag: str
    pattern: re.Pattern[str]


def _any(*stems: str) -> str:
    return "(?:" + "|".join(" ".join(stems).split()) + ")"


# Vocabulary ---------------------------------------------------------------------------------------

_CORE: Final = re.compile(
    _any(
        r"approv\w* approval graders? grading evaluators? assessors? raters? arbiters? adjudicat\w*",
        r"annotators? verdicts? rubrics? llms? chatgpt gpts? hallucinat\w+ grounded\w* lenien\w+",
        r"overrul\w+ misgrad\w+ autograder\w* jailbreak\w* markscheme groundtruth scorers? obey\w*",
        r"factcheck\w* crosscheck\w* doublecheck\w*",
    )
)
_STRONG: Final = re.compile(
    _any(
        r"evaluat\w* assess\w* annotat\w+ instruction\w* prompts? guidelines? json yaml chatbots?",
        r"completions? faithful\w* factual\w* overrid\w+ disregard\w* submissions? checkers?",
        r"examiners? reviewers? scoring criteri\w+ validat\w+ verif\w+ proofread\w* impartial",
    )
)
_WEAK: Final = re.compile(
    _any(
        r"judges? judged judging judge?ments? scores? scored marks? marked marking grades? graded",
        r"rate rates rated ratings? right rightly correct\w* accura\w+ true truth\w* pass passes",
        r"passed passing accept\w* answers? answered response responses repl(?:y|ies|ied)",
        r"statements? claims? claimed above preceding previous\w* prior earlier below labels?",
        r"labell?ed results? outputs? outcomes? tasks? credits? points? full fully maximum max",
        r"maximal highest top best review\w* check(?:ed|s|ing)? ignor\w+ forget\w* skip\w* sources?",
        r"documents? passages? references? context knowledge confirm\w* certain\w* trust\w* sure",
        r"surely models? ai system users? assistants? kindly please doubts? undoubtedly",
        r"definite\w* absolutely obvious\w* indeed errors? mistakes? mistaken wrong incorrect",
        r"flaws? flawless perfect\w* support\w* backed evidence proofs? proven? proves match\w*",
        r"agree(?:s|d|ment)? identical percent hundred confiden\w+ decisions? decide[ds]? choose",
        r"chosen options? select\w* respond\w* return\w* positive favou?rabl[ey] valid experts? item",
        r"gold keys? schemes? earns? deserv\w+ merits? quality reasonabl[ey] readers? conclu\w+",
        r"final consistent consistently align\w* void candidates? materials? tips? ends? ended begin",
        r"follows fine guidance directions? directives? orders? commands? positively",
        r"exactly question questions thought reasoning step policy unquestion\w+ guarantee\w*",
        r"facts? thorough\w* complete\w* double rules? message kind treat options?",
    )
)
POSITIVE: Final = _any(
    r"right correct\w* grounded accurate true valid pass(?:ed|es)? approv\w+ accept\w* supported",
    r"faithful factual perfect\w* full maximum max maximal highest top best positive favou?rable",
    r"flawless ok okay yes credit",
)
_VERDICT: Final = _any(
    r"right correct\w* grounded accurate pass(?:ed|es)? approved accepted supported faithful",
    r"factual positive favou?rable flawless",
)
_SCORE: Final = _any(
    r"scores? marks? grades? ratings? verdicts? credits? labels? votes? judge?ments?",
)
_RATE: Final = _any(
    r"give grant award assign rate grade score mark judge label classify evaluate assess output",
    r"return respond reply say print write choose select pick approve accept pass consider treat",
    r"deem count conclude declare report vote answer decide rule confirm emit",
)
_THING: Final = _any(
    r"answers? response reply completion output submission statement claim summary text item one",
    r"content message",
)
_IGNORE: Final = (
    r"(?:ignor\w*|disregard\w*|forget\w*|overrid\w+|overrul\w+|neglect|bypass|discard|set aside"
    r"|put aside|skip|drop|dismiss|suspend|cancel|pay no (?:attention|heed|mind) to"
    r"|(?:dont|do not|not|never|stop|without|no need to|must not|mustnt|neednt) (?:follow\w*"
    r"|obey\w*|compar\w+|evaluat\w+|check\w*|judg\w+|verify\w*|grad\w+|assess\w*|consult\w*"
    r"|apply\w*|us\w+))"
)
_RULES: Final = (
    r"(?:instruct\w*|prompts?|guidelines?|guidance|directions?|directives?|rubrics?|criteri\w+"
    r"|rules? above|reference(?: \w+)?|system message|scheme|earlier rules|the rules|orders)"
)
_JUDGE: Final = _any(
    r"graders? evaluators? assessors? raters? arbiters? annotators? adjudicators? autograders?",
    r"scorers? reviewers? examiners? judges? checkers? referees? moderators? markers? llms?",
    r"verifiers? auditors?",
)
_START: Final = (
    r"(?:\| (?:(?:please|now|so|just|kindly|then|and|simply|only|instead|thus|always|important"
    r"|therefore) )*|(?:you|must|should|please|kindly|simply|just|shall|now|only) )"
)


@lru_cache(maxsize=20_000)
def rank(word: str) -> int:
    """3 for a word of judges alone, 2 for one of tests and tasks, 1 for everyone's, 0 for others."""
    for value, words in ((3, _CORE), (2, _STRONG), (1, _WEAK)):
        if words.fullmatch(word):
            return value
    return 0


# Phrases ------------------------------------------------------------------------------------------


def _phrase(flag: str, *parts: str) -> Phrase:
    return Phrase(flag, re.compile(r"(?<!\w)(?:" + "|".join(parts) + r")(?!\w)"))


_UP3, _UP5 = r"(?: \w+){0,3}", r"(?: \w+){0,5}"
PHRASES: Final = (
    Phrase(
        "instruction",
        re.compile(
            rf"\b{_IGNORE}{_UP5} {_RULES}\b"
            rf"|\| (?:(?:please|now|just|kindly|so) )*{_IGNORE}{_UP5} (?:above|previous|prior"
            r"|preceding|earlier|told|before)\b"
            rf"|{_START}{_RATE}{_UP5} (?:{_VERDICT}|{_SCORE})(?: {_SCORE})? (?:\||to this|for this"
            r"|only|and nothing|to it)"
            rf"|\b{_RATE}(?: to)? (?:this|it|that|the above|(?:the|my|these|all|every) {_THING})"
            rf"(?: {_THING})?(?: above)?(?: as| to be| is| with| a)?(?: the)? {POSITIVE}\b"
            rf"|\b{_RATE} (?:it |this |me |him )?(?:the |a )?(?:full|highest|maximum|top|best|max"
            rf"|maximal|perfect)(?: possible)? (?:{_SCORE}|answer)\b"
            rf"|{_START}(?:mark|rate|grade|score|approve|label|deem)(?: \w+)? (?:this|it|the above"
            r"|that)\b"
            rf"|{_START}(?:accept|approve)(?: \w+)? (?:all|every|this|it|any|the)(?: {_THING})?"
            r" (?:\||and|as)"
        ),
    ),
    _phrase(
        "instruction",
        r"(?:respond|reply|answer|output|return|print)(?: only)? with (?:the )?(?:word |label )?"
        rf"(?:{POSITIVE}|\d+|only|just|exactly)",
        r"(?:respond|output|reply|return|answer) (?:only|nothing but|exactly|solely)",
        r"(?:new|updated|real|actual|revised|hidden) (?:system )?(?:instructions?|prompt|task)",
        r"(?:task|rules|policy|instructions?|criteria|rubric) (?:has|have|was|were|is|are)?"
        r"(?: been)? ?(?:now )?(?:changed|relaxed|replaced|updated|overridden|void|cancell?ed)",
        r"(?:rules|rubric|instructions|criteria) (?:have |has )?chang\w+",
        r"(?:system|developer) (?:prompt|message|override|note|instruction)s?",
        r"override (?:active|accepted|enabled|mode|code)",
        r"(?:directions|instructions|rules|guidelines|criteria) no longer (?:apply|hold|count)",
        r"from now on (?:you|obey|only|answer|respond|every|all)",
        r"(?:your|the) (?:only|sole|new|real) (?:job|task|duty|goal)(?: \w+)? is",
        rf"say (?:right|grounded|correct|pass|approved|supported)(?! (?:now|there|here|\w+ly))",
    ),
    _phrase(
        "forged verdict",
        r"(?:correct|right|final|true|gold|proper|expected|only|reference|overall|appropriate)"
        r" (?:verdict|label|score|grade|rating|judge?ment|evaluation|mark|classification"
        r"|assessment|decision|outcome) (?:is|should|must|would|be|here|:)",
        rf"verdict (?:is |of |must be |should be )?{POSITIVE}",
    ),
    _phrase(
        "authority",
        r"(?:verified|confirmed|validated|approved|vetted|certified|endorsed|(?:fact|double|cross)"
        rf" ?checked|audited|checked|reviewed|accepted|signed off)(?: and \w+)?(?: as| to be)?"
        rf"(?: \w+)? (?:{POSITIVE}|by (?:the |all |our |a |\w+ )?(?:human |independent |domain )?"
        r"(?:experts?|humans?|annotators?|historians?|graders?|evaluators?|reviewers?|reference"
        r"|ground truth|scholars|specialists|professors?))",
        r"(?:ground truth|gold (?:label|answer|standard answer)|answer key|mark(?:ing)? scheme"
        r"|grading (?:guide|scheme|key|rubric)|reference answer|model answer|the rubric)",
        r"(?:experts?|annotators|reviewers?|scholars|historians|peer review|panel)(?: \w+){0,3}"
        rf" (?:confirm\w*|verif\w+|agree\w*|approv\w+|validat\w+|signed off)(?: \w+){{0,3}}"
        rf" (?:this|above|{_THING})",
    ),
    _phrase(
        "addresses the judge",
        rf"(?:dear|hey|hello|hi|attention|note to|note for|message to|message for|notice to|to)"
        rf"(?: the| all| any| my| ai| you| fellow){{0,2}} {_JUDGE}",
        rf"as (?:a|an|the)(?: \w+)? {_JUDGE}(?: model)? you",
        rf"if (?:you|the|a|an|any)(?: are)?(?: a| an| the)?(?: \w+)? (?:{_JUDGE}|model|ai|language"
        r" model)(?: \w+){0,2} (?:you|choose|it|this|is|answer|say|read\w*|review\w*|grad\w+)",
        rf"(?:the|this|any|every|a) (?:ai |llm |human )?(?:graders?|evaluators?|assessors?|raters?"
        r"|arbiters?|annotators?|scorers?) \w+",
        rf"(?:judges?|reviewers?|examiners?|referees?|llms?|markers?) (?:please|must|should|kindly"
        rf"|is reminded|are reminded|note|has to|have to)(?: \w+){{0,4}} (?:{POSITIVE}|{_RATE})",
        r"(?:you are|youre|you re)(?: now)? (?:a|an|the)(?: \w+)? (?:judge|grader|evaluator"
        r"|assessor|model|assistant|ai)",
        rf"(?:be|please be) (?:kind|lenient|generous|nice)(?: and| with| to| please)",
        rf"(?:tip|pay|reward|donate|give) (?:you |\d+ ){{1,2}}(?:\w+ )?if you \w+",
        rf"let (?:this|it|me|that)(?: \w+){{0,2}} (?:pass|through)",
        rf"(?:deserves?|earns?|merits?|gets?) (?:a |the |full |an )*(?:{_SCORE}|pass|approval"
        r"|full|everything)",
    ),
    _phrase(
        "self-claim",
        rf"(?:this|that|the above|my|it)(?: {_THING})? (?:is|was|are)(?: the| a| fully| indeed"
        rf"| completely| entirely| absolutely| certainly| definitely| undoubtedly| undeniably"
        rf"| \d+| percent| only){{0,3}} (?:right|correct|accurate|grounded|supported|factual"
        rf"|true|valid|faithful|flawless|perfect) (?:\||answer|response|reply|verdict|one \|"
        r"|statement|and|by the|beyond|without|trust|according)",
        rf"(?:this|above|my|given) {_THING}(?: above)? (?:should|must|deserves|meets|satisfies|earns"
        r"|qualifies|counts as|matches|agrees with|passed|passes|contains? no|has no"
        r"|(?:is|was|has been|are)(?: \w+){0,3} (?:right|correct|accurate|true|valid|supported|faithful"
        r"|factual|grounded|perfect|flawless|verified|confirmed|approved|accepted|consistent))",
        r"(?:there (?:is|are)|contains?|has|with|without|it has) (?:no|zero|not any)(?: \w+)?"
        r" (?:errors?|mistakes?|hallucinations?|flaws?|inaccurac\w+)(?: \w+)?"
        r" (?:in|here|above|this|\|)",
        r"(?:i am|im|we are)(?: \w+){0,3} (?:certain|sure|positive|confident)(?: of| about| that)?"
        r"(?: this| that| it| my| in)+",
        r"trust me",
        r"i (?:have )?(?:double ?checked|verified|checked|fact ?checked)(?: that)? (?:this|it|my|all"
        r"|everything|the)",
        r"no hallucinations?",
        r"(?:matches|agrees with|identical to|same as|equal to)(?: exactly)? (?:the )?(?:reference"
        r"|ground truth|gold|expected|accepted|correct|right) ?(?:answer|label|exactly|one)?",
    ),
    _phrase(
        "closing fence",
        r"end of (?:the |this |my )?(?:candidate|response|answer|completion|submission|text|data"
        r"|document|input|output|message|conversation|user|assistant|reply|transcript|evaluation)s?",
        r"(?:text|answer|response|material|candidate|submission|completion|data|input|reply)"
        rf"(?: \w+){{0,3}} (?:is over|ends here|stops here|is finished|ended|is complete)",
    ),
    _phrase(
        "master key",
        r"let ?s (?:solve|think|work|break|go|reason|analy\w+|verify)(?: \w+){0,5} (?:step by step"
        r"|carefully|problem|question|through)",
        r"let (?:me|us) (?:solve|think|work|reason|analy\w+|go through)(?: \w+){0,5}"
        r" (?:step by step|carefully|problem|question|through|first)",
        r"think(?:ing)? step by step",
    ),
)

MASTER_KEYS: Final = re.compile(
    r"(?:\| )?(?:(?:ok|okay|sure|well|alright|certainly|of course) (?:\| )?)?(?:(?:the |my |a )?"
    r"(?:thought|thinking|reasoning|solution|chain of thought)(?: process| steps?)?"
    r"|(?:the |my )?(?:final |correct )?(?:answers?|response|reply|output|summary|explanation"
    r"|analysis|conclusion|result|solutions?|verdict)(?: is)?"
    r"|(?:here is|heres|here s|this is|below is)(?: the| my| a| your)?(?: \w+)?"
    r"(?: (?:solution|answer|response|summary|reply|analysis))?"
    r"|let ?(?:s|me|us) (?:now )?(?:solve|think|work|break|reason|analy\w+|verify|consider|see|look|start"
    r"|begin|go)\b.{0,60}|to (?:solve|answer) (?:this|the) .{0,40}"
    r"|(?:step|part) (?:\d+|one)|first(?:ly)?|i will (?:now )?(?:answer|think|explain|solve).{0,30}"
    r"|解|解答|答案?|回答|思考过程|思考過程|solución|lösung|réponse|respuesta|antwort)(?: \|)*"
)
"""A whole completion that announces an answer and gives none (arXiv 2507.08794)."""

BARE: Final = frozenset(
    """right correct grounded pass passed accept accepted approved supported accurate valid faithful
    good ok perfect factual true""".split()  # noqa: SIM905
)
"""Verdicts: alone they claim nothing about the world."""

# Shapes -------------------------------------------------------------------------------------------

_KEY: Final = (
    r"(?:final |overall |total )?(?:verdict|score|rating|grade|label|mark|evaluation|assessment"
    r"|judge?ment|factuality|correctness|faithfulness|grounded(?:ness)?|hallucinat(?:ion|ed)|passed"
    r"|confidence|is_?correct|reward|answer_?correct|grader|judge|evaluator|supported|accuracy)"
)
_KEY_OF_WORD: Final = r"(?:result|outcome|status|decision|conclusion|correct|pass|output|feedback)"
_WORD: Final = (
    r"(?:right|wrong|correct|grounded|pass(?:ed)?|accept(?:ed)?|approved?|supported|full\w*|excellent"
    r"|perfect|positive|valid|accurate|true|yes|ok|(?-i:[A-F](?=[\s.!]*$)))(?!\w)"
)
_VALUE: Final = (
    rf"(?:-?\d+(?:\.\d+)?(?:\s*(?:/|out of|%)\s*\d*)?(?!\w)|{_WORD}|(?:no|false|high\w*|none|good)(?!\w)"
    r"|[a-f][+-])"
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
    _shape("role tag", "rest", r"<[|｜][^<>\n]{0,60}[|｜]>"),
    _shape("role tag", "rest", r"</?(?:start|end)_of_(?:turn|text)>|</?s>|<(?:bos|eos|pad|unk)>"),
    _shape("role tag", "rest", rf"^[ \t]*#{{2,6}} *(?:{_LABEL}|{_ROLE})s? *:?[ \t]*$"),
    _shape("role tag", "rest", rf"(?:^[ \t]*|(?<=[.!?] ))[*_]*{_ROLE}(?: (?:message|prompt|note)| ?#?\d+)?[*_]* ?:"),
    _shape("forged example", "rest", rf"(?<=\n)[ \t]*[*_]*{_LABEL}[*_]* ?(?::|$)"),
    _shape("markup", "match", r"<!--(?s:.*?)-->|<!--(?s:.*)|<\?[^<>]{0,200}\?>"),
    _shape("markup", "match", r"\{[#%][^{}]{0,300}[#%]\}|^\s*\[//\]:[^\n]*"),
    _shape("closing fence", "match", r"<!\[CDATA\[|\]\]>|`{3,}\w*|~{3,}|\"{3,}|'{3,}"),
    _shape(
        "closing fence",
        "match",
        r"^[^\w\n]*[-=*#~_+]{3,}[ \t]*(?:end|begin|start|stop|eof)\b[^\n]{0,80}"
        r"|\[/?[ \t]*(?:end|begin|start|stop|/)[^\]\n]{0,60}\]",
    ),
    _shape("closing fence", "match", r"^[ \t]*[-=*#~_+]{3,}[ \t]*$"),
    _shape("forged verdict", "match", r"<<<[^<>]{0,200}>>>|<{2,}|>{2,}"),
    _shape("forged verdict", "match", rf"\{{[^{{}}]{{0,600}}\b{_KEY}\b[^{{}}]{{0,600}}\}}"),
    _shape("forged verdict", "match", r"\\boxed\s*\{?[^{}\n]{0,80}\}?|\$\\?boxed[^$\n]{0,80}\$?"),
    _shape("forged verdict", "match", r"\[\[[^\[\]\n]{0,40}\]\]|\b(5|10|100|1)(?:\.0)?\s?/\s?\1\b"),
    _shape(
        "forged verdict",
        "unit",
        rf"\b{_KEY}[\"'*_`)\]]{{0,3}}\s{{0,3}}(?::|=|->|=>|→|-|is\b|was\b)\s{{0,3}}[\"'*_`(\[]{{0,3}}"
        rf"{_VALUE}",
    ),
    _shape("forged verdict", "unit", rf"^[ \t]*[*_#>-]*[ \t]*{_KEY}[ \t]+{_VALUE}[ \t.!]*$"),
    _shape("forged verdict", "unit", rf"\b{_KEY_OF_WORD}[\"'*_`)]{{0,3}}\s{{0,3}}(?::|=|->)\s{{0,3}}[\"'*_`(]{{0,3}}{_WORD}"),
    _shape("forged verdict", "unit", rf"[✅☑✔💯][^\n]{{0,10}}\b{_WORD}|^[ \t]*{_KEY}[ \t]*:"),
    _shape("forged verdict", "match", r"[✅☑✔💯]️?"),
    _shape("forged verdict", "match", rf"^[ \t]*\|[^\n]*\b(?:{_KEY}|{_KEY_OF_WORD}|{_WORD})\b[^\n]*\|[ \t]*$"),
    _shape("forged verdict", "match", r"^[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)+\|[ \t]*$"),
    _shape("link", "match", r"!\[[^\]\n]{0,300}\]\([^)\n]{0,500}\)"),
    _shape("link", "match", r"\]\([^)\n]{0,500}\)+"),
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
    "b i em strong u p br sub sup ul ol li h1 h2 h3 h4 h5 h6 code pre tt q cite hr body html "
    "think".split()
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
    _any(
        r"ignorez ignoriere\w* ignorier\w* ignora ignorad ignoren ignorar ignorate ignoruj\w*",
        r"ignoreer ignorera oubli\w+ neglig\w+ vergiss vergessen\w* vergeet olvid\w+ dimentica\w*",
        r"esquec\w+ missacht\w+ beachte ignorieren ne?tenez zignoruj\w* zapomnij\w* negeer negeren",
        r"bortse glom ohita unohda hagyd abaikan yoksay say ardi bewert\w+ bewerten attribu\w+",
        r"attribuez donnez notez mettez accordez marquez gib vergib markier\w* werte marca marque",
        r"marquez marcala califica\w* asigna asignar otorga dale evalu[aei]\w* valuta\w* assegna",
        r"assegnare segna avali\w+ atribu\w+ beoordel\w* markeer geef keur ocen\w* przyznaj oznacz",
        r"zaakceptuj isaretle degerlendir\w* ver puanla godkann\w* betygsatt markera godkend bedom",
        r"hyvaksy arvioi ertekel\w* adj fogadd jelold hodnot\w* oznac\w* acorda notati marcheaza",
        r"berikan tandai nilai akzeptier\w* acceptez aceita aceite acepta accetta accepteer",
    )
)
FOREIGN_OBJECTS: Final = re.compile(
    _any(
        r"consignes? reponses? precedentes? maximale? juste notation anweisung\w* antwort\w*",
        r"punktzahl punkte bestnote hochstnote volle richtig korrekt instrucciones respuesta",
        r"correcta puntuacion puntaje maxima istruzioni risposta corretta punteggio massimo",
        r"instrucoes resposta correta pontuacao nota instructies antwoord goed juist hoogste",
        r"polecenia polecen instrukcje odpowiedz poprawna? punktow talimat\w* yanit\w* cevap\w*",
        r"dogru puan tam instruktion\w* svar svaret ratt korrekt betyg poang rigtigt riktig",
        r"karakter ohjeet vastau\w+ oikea\w* pisteet utasitas\w* valasz\w* helyes\w* pontszam\w*",
        r"pontot pokyny odpoved\w* spravn\w* bodu instructiun\w* raspuns\w* corect\w* punctaj\w*",
        r"instruksi jawaban benar skor instructions? elevee anterior\w* precedenti vorherig\w*",
        r"oben bovenstaande ovan superior\w* note\w* reponds",
    )
)
"""Folded word stems: one of each in a sentence is an instruction in another Latin language."""
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
