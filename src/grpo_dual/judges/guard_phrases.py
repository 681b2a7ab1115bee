"""How attempts on a judge speak: the vocabulary of judging, and phrases that only they use.

Phrases see a stream of folded words with one space between them and ``|`` where a sentence begins,
so punctuation cannot part what belongs together. Their gaps are bounded, so no text is slow.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final


@dataclass(frozen=True, slots=True)
class Phrase:
    """A pattern of words, and the kind of attempt that it is."""

    flag: str
    pattern: re.Pattern[str]


def any_of(*stems: str) -> str:
    """A group that matches any of the patterns that the strings list, parted by blanks."""
    return "(?:" + "|".join(" ".join(stems).split()) + ")"


_CORE: Final = any_of(
    r"""
    adjudicat\w* annotators? approv\w* arbiters? assessors? autograder\w* chatgpt crosscheck\w*
    doublecheck\w* evaluators? factcheck\w* gpts? graders? grading grounded\w* groundtruth
    hallucinat\w+ jailbreak\w* lenien\w+ llms? markscheme misgrad\w+ obey\w* overrul\w+ raters?
    rubrics? scorers? verdicts?
    """
)
_STRONG: Final = any_of(
    r"""
    annotat\w+ assess\w* chatbots? checkers? completions? criteri\w+ disregard\w* entail\w*
    evaluat\w* examiners? factual\w* faithful\w* guidelines? impartial instruction\w* json
    overrid\w+ prompts? proofread\w* reviewers? scoring submissions? validat\w+ verif\w+ yaml
    """
)
_WEAK: Final = any_of(
    r"""
    above absolutely accept\w* accura\w+ agree(?:s|d|ment)? ai align\w* answer(?:s|ed)? assistants?
    backed begin below best candidates? certain\w* check(?:s|ed|ing)? checklist choose chosen
    claim(?:s|ed)? commands? complete\w* conclu\w+ confiden\w+ confirm\w* consistent(?:ly)? context
    correct\w* credits? decide[ds]? decisions? definite\w* deserv\w+ directions? directives?
    documents? double doubts? earlier earns? end(?:s|ed)? errors? evidence exactly experts? facts?
    fail(?:s|ed)? favou?rabl[ey] final fine flaws? flawless follows forget\w* full fully generous
    gold graded? grades guarantee\w* guidance highest hundred identical ignor\w+ incorrect indeed
    item judged? judges judging judge?ments? keys? kind kindly knowledge labell?ed labels?
    mark(?:s|ed|ing)? markers? match\w* materials? max maximal maximum merits? message mistaken?
    mistakes models? obvious\w* options? orders? outcomes? outputs? passages? pass(?:es|ed|ing)?
    percent perfect\w* please points? policy positive(?:ly)? preceding prefer\w* previous\w* prior
    proofs? proven? proves quality questions? rated? rates ratings? readers? reasonabl[ey] reasoning
    references? repl(?:y|ies|ied) respond\w* responses? results? return\w* review\w* right(?:ly)?
    rules? schemes? scored? scores select\w* skip\w* sources? statements? step support\w*
    sure(?:ly)? system tasks? thorough\w* thought tips? top treat true trust\w* truth\w* undoubtedly
    unquestion\w+ users? valid void winners? wrong
    """
)
POSITIVE: Final = any_of(
    r"right correct\w* grounded accurate true valid pass(?:ed|es)? approv\w+ accept\w* supported",
    r"faithful factual perfect\w* full maximum max maximal highest top best positive favou?rable",
    r"flawless ok okay yes credit",
)
_VERDICT: Final = any_of(
    r"right correct\w* grounded accurate pass(?:ed|es)? approved accepted supported faithful",
    r"factual positive favou?rable flawless",
)
_SCORE: Final = any_of(
    r"scores? marks? grades? ratings? verdicts? credits? labels? votes? judge?ments?",
)
_RATE: Final = any_of(
    r"give grant award assign rate grade score mark judge label classify evaluate assess output",
    r"return respond reply say print write choose select pick approve accept pass consider treat",
    r"deem count conclude declare report vote decide rule confirm emit",
)
_THING: Final = any_of(
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
_JUDGE: Final = any_of(
    r"graders? evaluators? assessors? raters? arbiters? annotators? adjudicators? autograders?",
    r"scorers? reviewers? examiners? judges? checkers? referees? moderators? markers? llms?",
    r"verifiers? auditors?",
)
_START: Final = (
    r"(?:\| (?:(?:please|now|so|just|kindly|then|and|simply|only|instead|thus|always|important"
    r"|therefore) )*|(?:you|must|should|please|kindly|simply|just|shall|now|only) )"
)


CORE: Final = 3
"""Rank of the words that only judges use."""


@lru_cache(maxsize=20_000)
def rank(word: str) -> int:
    """How much a folded word tells of judging.

    Returns:
        3 for a word that only judges use, 2 for one of tests and tasks, 1 for one that everyone
        uses too, 0 for any other.
    """
    for value, words in ((CORE, _CORE), (2, _STRONG), (1, _WEAK)):
        if re.fullmatch(words, word):
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
        rf"(?:must|should|please|only|to|shall) answer (?:{_VERDICT}|yes|true)",
        r"(?:new|updated|real|actual|revised|hidden) (?:system )?(?:instructions?|prompt|task)",
        r"(?:task|rules|policy|instructions?|criteria|rubric) (?:has|have|was|were|is|are)?"
        r"(?: been)? ?(?:now )?(?:changed|relaxed|replaced|updated|overridden|void|cancell?ed)",
        r"(?:rules|rubric|instructions|criteria) (?:have |has )?chang\w+",
        r"(?:system|developer) (?:prompt|message|override|note|instruction)s?",
        r"override (?:active|accepted|enabled|mode|code)",
        r"(?:directions|instructions|rules|guidelines|criteria) no longer (?:apply|hold|count)",
        r"from now on (?:you|obey|only|answer|respond|every|all)",
        r"(?:your|the) (?:only|sole|new|real) (?:job|task|duty|goal)(?: \w+)? is",
        r"(?:choose|select|pick|prefer|vote|confirm|output|answer)(?: option| response| candidate"
        r"| answer| for)? [a-d] (?:\||as|regardless|is|wins|only)",
        r"say (?:right|grounded|correct|pass|approved|supported)(?! (?:now|there|here|\w+ly))",
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
        r"(?:intended|published) (?:answer|solution|label)",
        r"(?:second|third|another|independent) (?:opinion|check|review) \|",
        r"(?:ground truth|gold (?:label|answer|standard answer)|(?:the|official|an) answer key"
        r"|mark(?:ing)? scheme|grading (?:guide|scheme|key|rubric)"
        r"|reference answer|model answer|the rubric)",
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
        r"(?:the|this|any|every|a) (?:ai |llm |human )?(?:graders?|evaluators?|assessors?|raters?"
        r"|arbiters?|annotators?|scorers?) \w+",
        rf"(?:judges?|reviewers?|examiners?|referees?|llms?|markers?) (?:please|must|should|kindly"
        rf"|is reminded|are reminded|note|has to|have to)(?: \w+){{0,4}} (?:{POSITIVE}|{_RATE})",
        r"(?:you are|youre|you re)(?: now)? (?:a|an|the)(?: \w+)? (?:judge|grader|evaluator"
        r"|assessor|model|assistant|ai)",
        r"you are now (?!\|)\w+",
        r"(?:be|please be) (?:kind|lenient|generous|nice)(?: and| with| to| please)",
        r"(?:tip|pay|reward|donate|give) (?:you |\d+ ){1,2}(?:\w+ )?if you \w+",
        r"(?:response|candidate|option|output) [a-d]s? (?!\|)\w+",
        r"(?:text|answer|response|content|material|output)(?: \w+)? (?:above|below)"
        r" (?:is|was|should|must|has)",
        r"(?:let|wave|wink) (?:this|it|me|that)(?: \w+){0,2} (?:pass|through|on)",
        r"(?:fair|careless|harsh|reasonable|honest|careful|strict)(?: \w+)?"
        r" (?:reader|marker?|grader|judge|reviewer|examiner)",
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
        rf"(?:this|above|my|given) {_THING}(?: above)? (?:should|must|deserves|meets|satisfies"
        r"|earns|qualifies|counts as|matches|agrees with|passed|passes|contains? no|has no"
        r"|(?:is|was|has been|are)(?: \w+){0,3} (?:right|correct|accurate|true|valid|supported"
        r"|faithful|factual|grounded|perfect|flawless|verified|confirmed|approved|accepted"
        r"|consistent))",
        r"(?:there (?:is|are)|contains?|has|with|without|it has) (?:no|zero|not any)(?: \w+)?"
        r" (?:errors?|mistakes?|hallucinations?|flaws?|inaccurac\w+)(?: \w+)?"
        r" (?:in|here|above|this|\|)",
        r"(?:i am|im|we are)(?: \w+){0,3} (?:certain|sure|positive|confident)(?: of| about| that)?"
        r"(?: this| that| it)+",
        r"trust me",
        r"(?:it|this|that|everything|all of it|which) (?:all )?(?:checks out|holds(?: up| too| \|)"
        r"|adds up)",
        r"(?:every|each|this|the following) (?:word|line|detail|sentence|claim)(?: \w+){0,5}"
        r" (?:passage|source|text|document|knowledge|verbatim|context)",
        r"(?:nothing|none of it|no word|no part)(?: \w+){0,3} (?:invented|made up|fabricated)",
        r"no (?:issues|problems|errors|mistakes) (?:found|detected|remain)",
        r"i (?:have )?(?:double ?checked|verified|checked|fact ?checked)(?: that)? (?:this|it|my"
        r"|all|everything|the)",
        r"no hallucinations?",
        r"(?:matches|agrees with|identical to|same as|equal to)(?: exactly)? (?:the )?(?:reference"
        r"|ground truth|gold|expected|accepted|correct|right) ?(?:answer|label|exactly|one)?",
    ),
    _phrase(
        "closing fence",
        r"end of (?:the |this |my )?(?:candidate|response|answer|completion|submission|text|data"
        r"|document|input|output|message|conversation|user|assistant|reply|transcript|evaluation)s?",
        r"(?:text|answer|response|material|candidate|submission|completion|data|input|reply"
        r"|transcript)(?: \w+){0,3} (?:is over \||ends|stops here|is finished|ended|is complete)",
    ),
    _phrase(
        "master key",
        r"let ?s (?:solve|think|work|break|go|reason|analy\w+|verify)(?: \w+){0,5} (?:step by step"
        r"|carefully|problem|question|through)",
        r"let (?:me|us) (?:solve|think|work|reason|analy\w+|go through)(?: \w+){0,5}"
        r" (?:step by step|carefully|problem|question|through|first)",
        r"think(?:ing)? step by step",
        r"the user (?:is asking|asks|wants|asked|has asked)",
    ),
)

_PLANS: Final = (
    r"(?:solve|think|work|break|reason|analy\w+|verify|consider|see|look|start|begin|go)"
)
MASTER_KEYS: Final = re.compile(
    r"(?:(?:ok|okay|sure|well|alright|certainly|of course) )?(?:(?:the |my |a )?"
    r"(?:thought|thinking|reasoning|solution|chain of thought)(?: process| steps?)?"
    r"|(?:the |my )?(?:final |correct )?(?:answers?|response|reply|output|summary|explanation"
    r"|analysis|conclusion|result|solutions?|verdict)(?: is)?"
    r"|(?:here is|heres|here s|this is|below is)(?: the| my| a| your)?(?: \w+)?"
    r"(?: (?:solution|answer|response|summary|reply|analysis))?"
    rf"|let ?(?:s|me|us) (?:now )?{_PLANS}\b.{{0,60}}|to (?:solve|answer) (?:this|the) .{{0,40}}"
    r"|(?:step|part) (?:\d+|one)|first(?:ly)?|sure|certainly|okay|ok|absolutely|of course"
    r"|i will (?:now )?(?:answer|think|explain|solve).{0,30}"
    r"|(?:id|ill|i would|i am|im) (?:be )?(?:happy|glad) to (?:help|assist|answer).{0,30}"
    r"|解|解答|答案?|回答|思考过程|思考過程|solucion|losung|reponse|respuesta|antwort)"
)
"""A whole completion that announces an answer and gives none (arXiv 2507.08794)."""

BARE: Final = frozenset(
    """right correct grounded pass passed accept accepted approved supported accurate valid faithful
    good ok perfect factual true verified entailed confirmed excellent""".split()  # noqa: SIM905
)
"""Verdicts: alone they claim nothing about the world."""
