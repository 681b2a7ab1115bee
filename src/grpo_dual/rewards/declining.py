"""Does a clause decline? The small grammar of declining.

A clause declines when it opens with a sentence of the grammar: who (the text, ``it``, ``I``,
nobody) x a negation or a lack x a verb of telling or knowing. Patterns stand at a clause's start
and repeat fixed or few words only, so that the time stays linear in the text.
"""

import re

from grpo_dual.judges import lexical
from grpo_dual.rewards.clauses import Clause


def _any(spoken: str) -> str:
    """One of several words; ``_`` stands for a blank inside one."""
    return "(?:" + "|".join(spoken.split()).replace("_", " ") + ")"


_ADVERB = _any(
    "simply just really actually explicitly clearly directly specifically necessarily reliably "
    "definitively even ever still currently confidently honestly possibly fully truly also "
    "at_all quite very rather too so somewhat entirely completely totally definitely always "
    "absolutely all_that a_bit responsibly accurately safely half"
)
_ADVERBS = f"(?:{_ADVERB} ){{0,3}}"
_SOURCE = (
    "(?:(?:the|this|that|your|my|our|given|provided|above|short|available|supplied|current) ){0,3}"
    + _any(
        "context passage text document paragraph excerpt article story author description "
        "information knowledge snippet sentence statement scenario question prompt details data "
        "source narrative conversation dialogue writer knowledge_base database records "
        "training_data"
    )
    + "(?: (?:given|provided|above|here|itself|alone|you (?:gave|provided)|i (?:have|was given)))?"
    + r"(?: in (?:the|this) \w+)?"
)
# Nouns that hardly ever mean a thing in the world.
_TEXT = (
    "(?:the|this|that|your|our) (?:(?:given|provided|above|supplied|short|same) ){0,2}"
    "(?:context|passage|text|excerpt|paragraph|snippet|scenario|prompt|question"
    "|(?:information|knowledge) (?:given|provided|at hand))"
)
_ASKED = "who|whom|whose|which|what|when|where|why|how|if|whether"
_OF_TEXT = (
    rf"(?=$| (?:{_ASKED}|anywhere|here|at all|explicitly|directly|enough)\b"
    rf"| (?:in|by|from|within|on|with|(?:solely |only )?based (?:solely |only )?on|without) "
    rf"(?:what|{_SOURCE}|more|further|additional)| for (?:sure|certain)"
    rf"| to (?:me|us|answer)\b)"
)
"""What follows a participle where it is the text that does not state."""
_FACTS = _any(
    "information mention indication details? clues? hints? answers? data context reference "
    "knowledge idea records? access opinions? preferences beliefs proof "
    "recommendations? suggestions? facts? text certainty"
)
_MEANS = _any("way means basis grounds? reason cause")
_TELL = _any(
    "says? states? mentions? specify specifies reveals? tells? indicates? clarify clarifies "
    "identify identifies disclose discloses provides? gives? contains? includes? offers? explains? "
    "describes? names? address addresses covers? discuss answers? establish establishes shows? "
    "suggests? supports? point lets? allows? elaborate detail note help settle confirms? "
    "make_clear make_it_clear go_into distinguish list imply appear hint "
    "have_(?:any|enough|the|sufficient) "
    "touch_on refer reference supply present spell_out record make_mention"
)
_SAY = _any("say state mention specify reveal tell indicate clarify disclose")
_KNOW = _any(
    "say tell know determine decide answer infer conclude deduce judge guess speculate assume "
    "confirm verify identify work_out figure see discern establish be_sure be_certain presume "
    "make_out ascertain predict pinpoint recollect locate calculate compute solve resolve"
)
_CHOOSE = _any("choose pick select name find draw gather")
_OBLIGE = _any(
    "provide give help assist comment summari[sz]e recall remember think_of offer recommend "
    "discuss produce write fulfill? comply respond compare engage share access make_that make_any "
    "make_a make_assumptions make_judge?ments? rule_out complete create generate advise speak_to "
    "supply retrieve make_predictions"
)
# "I cannot wait", "we cannot but agree": small talk, no inability.
_NOT_CHAT = (
    "(?!"
    + _any(
        "wait believe stand imagine complain stop agree argue blame help_but help_myself get go "
        "deny be_beat be_happier thank live resist afford take keep but"
    )
    + "\\b)"
)
_SHUN = _any(
    "guess speculate assume presume judge comment answer decide choose pick discuss engage "
    "make_a make_any make_assumptions make_that hazard mislead risk_giving provide_any "
    "provide_potentially provide_inaccurate provide_incorrect"
)
_KNOWN = _any(
    "determined answered inferred known concluded established verified said deduced told decided "
    "confirmed derived ascertained summari[sz]ed discerned judged gleaned resolved settled "
    "solved calculated computed"
)
_STATED = _any(
    "stated said mentioned specified given clear known clarified named indicated disclosed "
    "revealed provided identified explained described answerable available accessible evident "
    "listed discussed addressed told obvious apparent determined certain covered spelled_out "
    "referenced"
)
_UNSTATED = _any(
    "unclear unknown uncertain unspecified unstated unmentioned unidentified undisclosed "
    "unsaid unanswerable undetermined ambiguous indeterminable indeterminate unanswered"
)
_HARD = _any(
    "impossible not_possible hard difficult tough tricky too_early unfair wrong inappropriate "
    "improper irresponsible unwise speculation speculative not_fair not_right a_mistake"
)
_NONE = (
    "(?:no|not any|(?:hardly|barely|scarcely) any|not enough|not sufficient|insufficient"
    "|too little|no enough|not much)"
)
_BE = "(?:is|are|was|were|goes|remains?|stays|seems|appears|would be|has been|have been|is left)"
_IT = "(?:it|this|that|which|the (?:answer|question|identity|matter|outcome))"
_PART = rf"(?:(?:{_ASKED}|the|that|this|its|a|an|any) (?:\w+ ){{0,7}}?)"
_RESULT = _any("answer conclusion summary comparison determination inference decision judge?ment")
_WHO = f"(?:i|we|one|you|nobody|no one)(?: {_ADVERB}){{0,2}}"

_OPENING = (
    "(?:"
    + _any(
        "sorry unfortunately honestly well hmm um and or also again regrettably frankly then "
        "as_such in_this_case to_be_honest apologies maybe perhaps actually because since sory "
        "answer the_answer_is my_answer_is as i_apologi[sz]e i_regret(?:_to_say)?(?:_that)? "
        "i_(?:must|have_to)_(?:say|admit|confess)"
    )
    + r" |(?:as far as i (?:can )?(?:tell|see|know)|to my knowledge|after reading (?:\w+ ){1,3}?) "
    r"|i am (?:(?:so|very|really) )?(?:sorry|afraid) (?:that |to say )?"
    r"|i (?:think|believe|feel|would say) (?:that )?"
    r"|(?:i am |as )(?:(?:just|only) )?an? (?:\w+ )?(?:ai|language model)(?: \w+){0,2}? "
    r"(?=(?:i|and|so|do|cannot|am|have) )"
    r"|(?:based (?:up)?on|from|given|according to|judging by|on the basis of|in|with|going by|"
    r"without) (?:\w+ ){1,6}?(?=(?:it|i|we|one|you|there|no|nothing|the (?:answer|question)) )"
    "){0,3}"
)

_TEXT_IS_SILENT = (
    rf"{_TEXT} (?:do|does|did|has|have|is|can|could|will|would) (?:not|never|nowhere) \w+",
    rf"{_TEXT} cannot \w+",
    rf"{_SOURCE} (?:at hand )?(?:is|are) too \w+|{_SOURCE} keeps (?:\w+ ){{1,2}}to itself",
    rf"{_SOURCE} (?:(?:do|does|did|has|have|is|can|could|will|would) )?(?:not|never|cannot|barely) "
    rf"{_ADVERBS}(?:{_TELL}|enough|sufficient|clear|detailed)\b",
    rf"(?:it|this|that) (?:do|does|did) not {_ADVERBS}{_SAY}"
    rf"(?:$| (?:us|me|it|that|this|anything|so|any|the|a|about|in|here|{_ASKED})\b)",
    rf"(?:it|this|that) (?:do|does|did) not (?:give|provide) (?:us |me )?(?:\w+ )?"
    rf"(?:{_FACTS}|name)",
    rf"(?:{_SOURCE}|it) (?:never|nowhere) (?:says|states|mentions|tells|specifies|reveals|gives)",
    rf"i do not (?:think|believe|see that) (?:that )?{_SOURCE} {_TELL}",
    rf"{_SOURCE} {_ADVERBS}(?:fails to|stops short of|omits|leaves|lacks|keeps (?:quiet|silent)"
    rf"|(?:(?:on|about) (?:\w+ ){{1,6}}?)?(?:is|are) {_ADVERBS}(?:incomplete|silent|insufficient"
    rf"|vague|limited|ambiguous|unclear|inconclusive|missing)"
    rf"|(?:gives?|offers?|makes?|contains?|provides?|has|includes?|holds?) {_ADVERBS}"
    rf"(?:no|nothing|little|insufficient|too little)"
    rf"|(?:says?|tells?|reveals?)(?: us| me)? (?:nothing|little))\b",
)
# Nouns that mean the text alone, never a thing in the world.
_PASSAGE = (
    "(?:the|this|that|your) (?:(?:given|provided|above|supplied|short|same|original) ){0,2}"
    "(?:context|passage|text|excerpt|paragraph|snippet|(?<=provided )(?:knowledge|information)"
    "|(?<=given )(?:knowledge|information))"
)
_NOT_IN_TEXT = (
    r"(?:\w+ ){0,8}?(?:not|never|nowhere|nothing|none|absent|missing|omitted|left out|lacking)"
    rf"(?: \w+){{0,6}}? (?:in|by|from|of|within|on) {_PASSAGE}\b",
    r"(?:(?:that|this|the) (?:\w+ )?(?:information|detail|answer|name|part)|it|this|that)"
    r"(?: \w+){0,3} (?:is|was|has been) (?:missing|omitted|left out|withheld|absent|lacking)\b",
)
_THERE_IS_NOTHING = (
    rf"there (?:is|are|was|were|seems to be|appears to be) {_ADVERBS}{_NONE} "
    rf"(?:\w+ )?(?:{_FACTS}|to go on)\b",
    rf"{_NONE} (?:\w+ )?{_FACTS}(?=$| (?:of|to|about|on|in|regarding|as|for|{_ASKED}|sorry|here"
    rf"|available|given|provided)\b| (?:is|are|was|were|can be) (?:given|available|provided)\b)",
    rf"(?:there (?:is|are) )?{_ADVERBS}{_NONE} (?:\w+ )?evidence"
    rf"(?=$| (?:here|either|given|provided|available)\b| (?:in|from) {_SOURCE}| to {_KNOW}\b)",
    rf"there (?:is|are) {_ADVERBS}(?:not enough|too little|not much) "
    rf"(?:here|for (?:me|us)|to {_KNOW})\b",
    rf"(?:there is |we have |i have )?{_ADVERBS}{_NONE} (?:\w+ )?"
    rf"(?:{_MEANS} (?:of|to|for|i can|we can|on which) \w+|telling|knowing)\b",
    rf"(?:there (?:is|are) )?{_ADVERBS}(?:nothing|little) (?:\w+ )?"
    rf"(?:here (?:about|that|to)|in {_SOURCE}|about (?:{_ASKED})"
    rf"|to (?:tell|say|indicate|suggest|show|go on|summari[sz]e|identify))\b",
    rf"nothing (?:here |there |given |in (?:\w+ ){{1,3}})?(?:tells?|says?|points?|suggests?"
    rf"|indicates?|shows?|identifies|reveals?) (?:us|me|that|{_ASKED}|to (?:either|any)|either)\b",
    r"no (?:\w+ ){1,3}(?:is|are|was|were|has been) "
    r"(?:mentioned|stated|specified|named|identified|listed|indicated|described)\b",
    rf"(?:no {_RESULT} (?:can be|could be|is|was)|an? {_RESULT} (?:is not|cannot be|could not be)) "
    rf"(?:given|drawn|made|reached|possible|available|offered|provided)\b",
    rf"neither (?:\w+ ){{0,4}}(?:is|was|are|were) {_ADVERBS}(?:identified|described|mentioned|said"
    rf"|specified|singled out|stated|shown)\b",
)
_I_DO_NOT_KNOW = (
    rf"{_WHO} (?:do|does|did|would|could) not {_ADVERBS}(?:know|recall|remember|feel comfortable"
    rf"|understand|want to (?:guess|speculate|assume)|comment|speculate|discuss|engage|make "
    rf"(?:assumptions|judge?ments)|see (?:any|a|the) {_SOURCE})\b",
    r"(?:i |we )?(?:do|does|did|would) not know\b",
    rf"(?:{_WHO} )?(?:do|does|did) not {_ADVERBS}(?:have|possess) (?:\w+ ){{0,3}}"
    rf"(?:{_FACTS}|{_MEANS}|enough|to go on|name|names|date|number|figure|specifics)\b",
    rf"{_WHO} (?:have|has|had) {_ADVERBS}(?:{_NONE}|little) (?:\w+ )?"
    rf"(?:{_FACTS}|{_MEANS}|evidence)\b",
    rf"{_WHO} (?:have|has) not (?:got )?(?:any|the|enough|an?) (?:\w+ )?(?:{_FACTS}|{_MEANS})\b",
    rf"{_WHO} (?:(?:can|could) )?(?:see|find|found|saw|spot|detect) (?:no|nothing|little)\b",
    r"(?:i |we )(?:cannot|could not|am unable|will not|would rather not|forget|forgot|abstain)$",
    r"(?:i |we )?(?:am|are) not (?:up to date|well versed|an expert|the right (?:person|one))\b",
    r"(?:i have )?never heard of\b|(?:i|we) (?:will |would )?(?:stay|remain) neutral",
    rf"{_WHO} (?:lacks?|would be guessing|(?:am|are) (?:missing|not (?:given|told|shown)))\b",
    rf"(?:{_WHO} )?(?:cannot|could not) {_ADVERBS}{_KNOW}\b(?! (?:i|enough)\b)",
    rf"(?:nobody|no one|none of us) (?:can|could) {_ADVERBS}{_KNOW}\b",
    rf"(?:i |we )?(?:cannot|would not be able to|will not be able to|(?:am |are |was )?"
    rf"(?:not able|unable) to|(?:am|are) not (?:in a position to|capable of)|(?:am|are) in no "
    rf"position to|(?:would rather|prefer|would prefer) not(?: to)?|(?:must |have to |will )?"
    rf"(?:decline|refuse)(?: to)?|am (?:hesitant|reluctant|not willing|not allowed|struggling"
    rf"|not {_ADVERBS}(?:\w+ )?(?:equipped|informed|knowledgeable|qualified|familiar)"
    rf"(?: enough)?) to|(?:am )?having trouble) "
    rf"{_ADVERBS}{_NOT_CHAT}\w+\b(?!(?: (?:him|her|it|them|this|that))? enough\b)",
    rf"(?:i |we )could not {_ADVERBS}(?:{_KNOW}|{_CHOOSE}|{_OBLIGE})\b",
    rf"(?:i |we )?(?:(?:would|will|may|must|should) not|(?:am|are) not {_ADVERBS}going to"
    rf"|(?:do|would) not (?:want|wish) to) {_ADVERBS}{_SHUN}",
    r"i do not (?:think|believe|feel) (?:that )?it is (?:appropriate|right|fair|wise|my place) to ",
    rf"(?:i |we )?(?:am|are) not {_ADVERBS}comfortable (?:with )?\w+ing\b",
    rf"(?:i |we )(?:(?:will|would|must|have to|need to|am going to) ){{0,2}}{_ADVERBS}"
    rf"(?:refrain from|pass on|abstain|hold off|opt out|(?:pass|decline)(?:$| on| answering))",
    rf"(?:i |we )(?:would |will )?(?:need|have) to {_ADVERBS}"
    r"(?:research|verify|check|look|consult)\b",
    rf"(?:i |we )?(?:(?:am|are) )?{_ADVERBS}(?:not {_ADVERBS}(?:sure|certain|aware|familiar"
    rf"|confident)|unsure|uncertain|unaware|unfamiliar|clueless|stumped|at a (?:\w+ )?loss)\b",
    rf"{_WHO} (?:would |will |do |also )?{_ADVERBS}(?:need|require)s? (?:to \w+ )?"
    rf"(?:some )?(?:more|further|additional|extra) (?:\w+ )?(?:{_FACTS}|of {_SOURCE}|to go on)",
    rf"(?:that|this|it|answering (?:that|this)|the question) (?:would )?"
    rf"(?:requires?|takes?|needs?) (?:\w+ )?{_FACTS}\b",
    rf"(?:some )?(?:more|further|additional|extra) (?:\w+ )?{_FACTS} (?:would be|is|are|will be"
    rf"|may be) {_ADVERBS}(?:needed|required|necessary)\b",
)
_IT_IS_UNCLEAR = (
    rf"(?:{_IT} )?(?:{_BE} )?{_ADVERBS}(?:not {_ADVERBS}{_STATED}|{_UNSTATED}){_OF_TEXT}",
    rf"{_IT} {_BE} {_ADVERBS}(?:unclear|unanswerable|unspecified|unstated|not clear)\b",
    rf"{_PART}(?:(?:{_BE} {_ADVERBS}not|(?:has|have) not been) {_ADVERBS}{_STATED}"
    rf"|{_BE} {_ADVERBS}{_UNSTATED})"
    rf"(?=$| (?:anywhere|here|to me|at this time)\b| (?:in|by|from|on) {_SOURCE})",
    rf"(?:{_IT} )?(?:{_BE} )?{_ADVERBS}{_HARD} (?:for (?:me|us|anyone) )?to "
    rf"{_ADVERBS}(?:{_KNOW}|provide|give|summari[sz]e|make an?)\b",
    rf"(?:{_IT} |{_PART})?(?:cannot|can never) be {_ADVERBS}(?:{_KNOWN}{_OF_TEXT}"
    rf"|(?:found|identified) (?:in|from) {_SOURCE})",
    rf"{_IT} could not be {_ADVERBS}{_KNOWN}{_OF_TEXT}",
    rf"(?:{_PART}|{_IT} )(?:is|was) not (?:something|anything) (?:that )?(?:i|we|{_SOURCE})\b",
    rf"{_PART}(?:is|are) (?:not|nowhere) (?:to be found )?(?:in|part of) {_SOURCE}",
    rf"{_PART}(?:is|are) {_ADVERBS}(?:insufficient|not sufficient|not enough|too vague)$",
    rf"(?:{_IT}|{_SOURCE}) (?:remains|is left|stays) open\b",
    r"(?:it|that) would (?:only )?be (?:pure |mere )?(?:speculation|guesswork|guessing)\b",
    rf"not in {_SOURCE}",
)
_IDIOMS = (
    rf"(?:{_WHO}|anyone) (?:(?:can|could|would) (?:only|just)|(?:would )?have to|can but|would be) "
    r"(?:guess|speculate|assume|guessing|speculating)\b",
    r"(?:any (?:answer|choice|guess)|it|that|this) (?:would be|is) (?:a|pure|mere|just|only) "
    r"(?:guess|guesswork|speculation|toss ?up|coin (?:flip|toss)|mystery)",
    r"i wish i (?:knew|could (?:say|tell|answer|help))|i am drawing a blank|(?:no comment|pass)$"
    r"|do not ask me|who (?:is to|can) (?:say|tell)$|(?:god|heaven) knows|i have (?:got )?nothing$",
    r"(?:it|this|that) (?:could|might|may) (?:go|be) either (?:way|one)\b",
    r"(?:it|this|that) is not my place to\b|not my place\b",
    rf"(?:{_SOURCE}|this) (?:has|have) no (?:answer|solution)\b",
    r"no (?:\w+ ){1,2}(?:available|provided|possible)$",
    r"your guess is as good|(?:it is )?any(?:one|body)(?: is)? guess|beats me|who knows$",
    r"(?:it|this|that) could (?:be|have been) (?:either|any(?:one|body))\b",
    r"(?:either|both) (?:is|are) (?:equally )?possible",
    r"(?:that|this|it)(?: (?:\w+ ){1,4}?| )is (?:beyond|outside)(?: of)? (?:what|the scope|my)\b",
    rf"{_PART}(?:eludes|escapes) me$",
    r"(?:it|this|that) (?:is|remains) an open question\b",
    r"(?:please|could you(?: please)?|can you(?: please)?) (?:provide|share|paste|give|send)"
    r"(?: me)?(?: with)? (?:the|that|this|more|a|some|additional|further) "
    r"(?:document|text|passage|context|information|details)\b",
    r"(?:please|could you|can you)(?: please)? (?:specify|clarify)\b",
)
_DECLINES = re.compile(
    f"{_OPENING}(?:"
    + "|".join(
        (
            *_TEXT_IS_SILENT,
            *_NOT_IN_TEXT,
            *_THERE_IS_NOTHING,
            *_I_DO_NOT_KNOW,
            *_IT_IS_UNCLEAR,
            *_IDIOMS,
        )
    )
    + r")(?! (?:if|whether|how|why|what) you\b"
    r"| (?:(?:an?|any|anything) (?:better|finer|greater|more)|the last time)\b)"
)
# Talk about the text or about answering, which answers nothing.
_META = frozenset(
    lexical.words(
        """
        information detail context passage text document excerpt paragraph source material data
        provide provided give given tell told say said show describe contain explain specify
        specific basis base based evidence clue summary summarise summarize additional further more
        need needed required require request share comment ai language model assistant artificial
        intelligence unfortunately honestly sorry apologize apologise apology confusion regret
        cannot unable determine determined possible impossible either neither none without way
        someone something anyone anything everyone everything able unclear unknown uncertain unsure
        help assist guess speculate assume assumption judge decide conclude conclusion available
        present sentence refer know knew wish reason exact precise idea clue afraid never
        memory qualified
        """
    )
)
_ASKING = frozenset({"who", "whom", "whose", "which", "what", "when", "where", "why", "how"})
_YES_NO = re.compile(r"(?:(?:\w+ ){0,6}(?:is|be|says?|answer|think|believe) )?(?:yes|no|yep|nope)$")
_GUESSES = re.compile(
    r"(?:i (?:think|believe|guess|suppose)|maybe|perhaps|possibly|probably) (?:that )?"
    r"(?:it|that|this|he|she|they) (?:is|was|are|were|would be) \w"
)
# Talk about the text, its author or the reader's next step.
_TALKS = re.compile(
    rf"{_OPENING}(?:{_SOURCE} (?:does )?(?:describes?|discuss(?:es)?|talks about|is about|covers"
    rf"|focuses|introduces|compares|is short)|(?:{_SOURCE}|it) (?:only|merely|just|simply) \w+"
    r"|please|kindly|feel free|let me know|if you|even (?:if|though)|to \w+"
    r"|i (?:have )?(?:searched|looked|checked|read|scanned|tried)|i (?:do|did|have|am) not \w+"
    r"|(?:i (?:would )?(?:recommend|suggest|advise)|you (?:would|should|may|might|could|can)"
    r"|it (?:would|might) be best|i am (?:happy|here|glad)|i (?:can|could|would|will)"
    r"(?: be)?(?: happy| glad)?(?: to)? help)(?: \w+){0,5} "
    r"(?:consult|check|contact|verify|refer|look|help|assist)(?:ing)?)\b"
)
# Looser than the grammar, for replies that are known to name nothing.
_DOUBT = re.compile(
    r"\b(?:not|no|nor|cannot|never|nothing|neither|either|unable|un(?:clear|known|sure|certain|said"
    r"|stated|determined|answer\w*|disclosed|specified)|insufficient|impossible|indeterminate|lack\w*"
    r"|missing|absent|silent|vague\w*|hard|difficult|without|only|all|few|guess\w*|ambiguous|omit\w*"
    r"|left (?:open|out|unsaid|in the dark)|speculat\w*|refuse|decline|avoid|prefer|needs?"
    r"|requires?|wrong|unfair|before)\b"
)
_TELLING = re.compile(
    r"\b(?:context|passage|text|excerpt|paragraph|scenario|sentence|description|story|author|details?"
    r"|information|knowledge|evidence|proof|clues?|reasons?|basis|grounds|answer\w*|question|know\w*"
    r"|tell\w*|told|says?|said|stated|mention\w*|describ\w*|specif\w*|indicat\w*|conclu\w*|given"
    r"|offer\w*|learn|determin\w*|assum\w*|judge\w*|guess\w*|speculat\w*|identif\w*|infer\w*"
    r"|summar\w*)\b"
)
_SPEAKER = re.compile(r"\b(?:i|we|one|us|nobody|anyone)\b")
_PERSON = re.compile(r"\b(?:he|she|him|her|his|hers)\b")


def declines(clause: Clause) -> bool:
    """Does a clause decline to answer?"""
    return _DECLINES.match(clause.words) is not None


def answers(clause: Clause) -> bool:
    """Does a clause that does not decline say anything of the world, or yes or no?"""
    if says_yes_or_no(clause) or _GUESSES.match(clause.words):
        return True
    spoken = clause.words.split()
    # "Maybe Oda Kessel?" is an answer; asking back, or repeating the question, is none.
    asks_back = clause.asks and ("you" in spoken or spoken[0] in _ASKING)
    return not asks_back and _TALKS.match(clause.words) is None and bool(content(clause.words))


def says_yes_or_no(clause: Clause) -> bool:
    """Is it ``yes``, ``no``, ``the answer is no`` or the like?"""
    return _YES_NO.match(clause.words) is not None


def content(spoken: str) -> list[str]:
    """The words that claim something which is neither small talk nor talk about answering."""
    return [word for word in lexical.claims(lexical.words(spoken)) if word not in _META]


def hedges(clause: Clause, *, speaker: bool = False) -> bool:
    """Are there words of doubt beside words of telling, and nobody meant by a pronoun?

    Args:
        clause: The clause.
        speaker: Do ``I``, ``we`` and ``nobody`` count as words of telling?
    """
    telling = _TELLING.search(clause.words) or (speaker and _SPEAKER.search(clause.words))
    return bool(telling and _DOUBT.search(clause.words)) and not means_person(clause)


def means_person(clause: Clause) -> bool:
    """Does a pronoun stand for one person?"""
    return _PERSON.search(clause.words) is not None
