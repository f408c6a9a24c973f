"""`letters`: generated pictures of letters and digits of many scripts, dark on light; nothing to download.

`glyphs` is as hard as photographs. `letters` is for learning an embedding of drawn characters: many classes
on a plain background. Each image shows one character in a random typeface, stretched, slanted, rotated and
bent, with strokes of random weight. Pixels depend only on `LETTERS_VERSION` and the outlines in matplotlib's
font files, as for `glyphs`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import numpy as np

from bench.data.glyph_characters import SIZE, Masks, load_masks
from bench.data.glyphs import blur, place, uniform
from bench.data.images import ImageSet

LETTERS_VERSION = 1  # raised with every change of the pixels; part of cache keys
IMAGES_PER_CLASS = 100
HELD_OUT_PER_CLASS = 20

# Letters and digits that at least 8 of the typefaces have, without those that another one resembles: of two
# outlines, scaled to the same 16 x 16 pixels, that correlate by 0.8 or more, only the first is here.
CHARACTERS = (
    "0123456789ABCDEFHIJKLMNPQRSTUVWXYZabdefgiklmnpqrtyÆÐØÞßæðøđĦħıŁłŋŒœƀƁƄƆƇƊƋƎƏƐƑƒƔƕƖƛƜƝƢƣƤƥƦ"
    "ƧƩƪƫƱƳƴƷƸƺƼƾƿǀǁǂǃǤǶȜȡȣȤȥȴȵȶȸȹȻȾȿɀɁɂɃɄɆɇɈɉɊɌɍɐɕɖɗɘɚɝɞɠɤɥɦɧɨɫɮɰɱɲɳɷɸɻɽɾɿʁʂʃʆʇʉʍʎʐʑʓʕʚʝʞʣʤʥʦʧ"
    "ʨʩʪʫʬʭʮʯͰͲͶΔΙΞΠΦΨΩαβγδζκμνξπςσφωϏϗϘϙϚϛϞϟϠϡϺϼЂІЉЊЋЏДЖЛЦЧЩЪЫЬЮЯэђєћѢѣѤѪѬѰѱѴҍҐҒҔҖҘҚҞҟҠҢҤҦҬұҲҴ"
    "ҷӀӃӇӋӏӶԒԔԲԳԵԶԷԸԹԺԻԾՀՁՂՃՄՅՆՇՉՊՌՎՒՔՖթխկձճչջռտփກຂຄງຈຊຍດຖທນປຜຝພມຣລວສອຮຯະາႡႢႣႤႥႦႧႨႩႪႫႮႯႰႲႵႸႼႾႿჁ"
    "ჂჃჄჅგდვზთკლმნპჟრსტუფღყჩცძჭჯჰჱჲჴჵჸჹჺᴂᴉᴊᴒᴓᴔᴖᴗᴙᴚᴝᴞᵻᵽᶅỺỻℲⱣⱤⱨⱪⱫⱮⱱⱲⱷⱹⱺⱾⴀⴁⴂⴃⴄⴅⴆⴇⴉⴊⴋⴌⴍⴎⴏⴐⴑⴒⴓⴕⴖⴗⴘⴙⴚ"
    "ⴝⴟⴡⴢⴣⴤⴥꙐꙔꙖꙗꜢꜤꜨꜩꜳꜴꜶꜷꜸꜹꜼꜽꝀꝁꝆꝇꝊꝋꞀꞁꞃꞋꞌꞎꞐꞑꞪꟽꟾꟿ"
)


def generate(progress: Callable[[int, int], None] | None = None) -> ImageSet:
    """Draw the whole data set: uint8 ``[C * IMAGES_PER_CLASS, 3, 32, 32]``, C being the number of characters.

    Args:
        progress: called with (classes done, total classes) after each class.
    """
    masks = load_masks(CHARACTERS)
    images = np.empty((len(CHARACTERS), IMAGES_PER_CLASS, 3, SIZE, SIZE), dtype=np.uint8)
    for label, char in enumerate(CHARACTERS):
        images[label] = draw_class(char, masks)
        if progress:
            progress(label + 1, len(CHARACTERS))
    held_out = np.arange(IMAGES_PER_CLASS) >= IMAGES_PER_CLASS - HELD_OUT_PER_CLASS
    return ImageSet.build(
        name="letters",
        images=images.reshape(-1, 3, SIZE, SIZE),
        labels=np.repeat(np.arange(len(CHARACTERS)), IMAGES_PER_CLASS),
        held_out=np.tile(held_out, len(CHARACTERS)),
        class_names=[class_name(char) for char in CHARACTERS],
        superclass=[class_name(char).rpartition(" ")[2] for char in CHARACTERS],
    )


def class_name(char: str) -> str:
    """Unicode's name, backwards: the script is last, so that alphabetical splits mix scripts."""
    return " ".join(reversed(unicodedata.name(char).lower().split()))


def draw_class(char: str, masks: Masks) -> np.ndarray:
    """All images of one class: uint8 ``[IMAGES_PER_CLASS, 3, SIZE, SIZE]``, the same on every call."""
    n = IMAGES_PER_CLASS
    rng = np.random.Generator(np.random.PCG64([LETTERS_VERSION, ord(char)]))
    chosen = rng.integers(masks.of[char].start, masks.of[char].stop, n)
    shift = uniform(rng, -1.5, 1.5, (2, n))
    ink = place(masks.pixels[chosen], rng, scale=(0.75, 1), turn=0.22, shift=shift, bend=5)
    ink = np.clip((ink - uniform(rng, 0.25, 0.6, (n, 1, 1))) * 3 + 0.5, 0, 1)  # stroke weight
    ink = blur(ink[:, None], uniform(rng, 0, 0.3, (n, 1, 1, 1))) * uniform(rng, 0.75, 1, (n, 1, 1, 1))
    return np.repeat(((1 - ink) * 255 + np.float32(0.5)).astype(np.uint8), 3, axis=1)
