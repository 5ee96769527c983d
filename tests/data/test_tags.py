"""Tags and words of captions: counted, and changed without touching anything else."""

import pytest

from lib_finetune.data.tags import CaptionChange, are_sentences, counts

TAGS = ["1girl, long hair, smile", "1girl, Long Hair, outdoors", "1girl, smile, long hair, smile"]
SENTENCES = [
    "A woman with long hair stands in a garden.",
    "A woman with long hair is sitting at a table.",
    "Portrait of a woman, with long hair",
]


def test_tags_are_counted_once_a_caption_and_written_as_they_are_most_often():
    assert counts(TAGS) == [("1girl", 3), ("long hair", 3), ("smile", 2), ("outdoors", 1)]
    assert not are_sentences(TAGS)


def test_of_sentences_words_and_shared_phrases_are_counted_without_small_words():
    assert are_sentences(SENTENCES)
    found = dict(counts(SENTENCES))
    assert found["woman"] == 3 and found["long hair"] == 3 and found["garden"] == 1
    assert "with" not in found and "hair" not in found and "stands in" not in found


def test_nothing_has_no_tags():
    assert counts([]) == [] == counts(["", "# a note"]) and not are_sentences([])


@pytest.mark.parametrize(
    ("how", "text", "instead", "before", "after"),
    [
        ("front", "zxq", "", "cat, sofa", "zxq, cat, sofa"),
        ("behind", "zxq, blue", "", "cat, Blue", "cat, Blue, zxq"),
        ("front", "cat", "", "Cat, sofa", "Cat, sofa"),
        ("remove", "sofa", "", "cat, sofa, sofa cushion", "cat, sofa cushion"),
        ("remove", "SOFA", "", "sofa", ""),
        ("replace", "sofa", "couch", "cat, sofa, red", "cat, couch, red"),
        ("replace", "sofa", "couch, cushion", "sofa, couch", "cushion, couch"),
        ("replace", "sofa", "", "cat, sofa", "cat"),
        ("remove", "sof", "", "cat, sofa", "cat, sofa"),
        ("remove", "a.c", "", "abc, a.c", "abc"),
        ("behind", "x", "", "one\ntwo\n# note", "one, x\ntwo, x\n# note"),
    ],
)
def test_a_change_of_tags(how, text, instead, before, after):
    assert CaptionChange(how, text, instead).applied(before) == after


@pytest.mark.parametrize(
    ("how", "text", "instead", "before", "after"),
    [
        ("remove", "long hair", "", "A woman with long hair, smiling.", "A woman with, smiling."),
        ("replace", "woman", "zxq woman", "A woman stands. The Woman smiles.", "A zxq woman stands. The zxq woman smiles."),
        ("remove", "man", "", "A woman", "A woman"),
        ("replace", "woman", r"\1", "A woman", r"A \1"),
    ],
)
def test_a_change_of_words_in_sentences(how, text, instead, before, after):
    assert CaptionChange(how, text, instead, sentences=True).applied(before) == after


def test_words_inside_a_tag_stay_where_captions_are_tags():
    assert CaptionChange("remove", "hair").applied("long hair, hair") == "long hair"
