"""Prompts in the style that people write for image models, made up from a grammar: material for benchmarks.

What real collections have is kept: a few natural sentences among many lists of modifiers, media and artists' names,
emphasis like (word:1.2), subjects of very unequal popularity, and most of a prompt's words shared with thousands of
others. What they have besides (spam, other languages, near copies of one prompt) is not made up here.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate

PEOPLE = """woman; man; girl with freckles; old fisherman; knight; wizard; witch; princess; samurai; astronaut;
cyborg; elf archer; viking warrior; pirate captain; detective; ballerina; monk; nurse; jazz musician; chess player;
blacksmith; goddess of the forest; vampire; android; gladiator; fortune teller; geisha; cowboy; deep sea diver;
violinist; mermaid; shaman; young king; queen of swords; beekeeper; street vendor; boxer; mountain climber; plague
doctor; clown; paladin; sorceress; space marine; farmer; ballet dancer; tattooed biker; librarian; clockmaker;
surfer; mad scientist; lighthouse keeper; bride; falconer; alchemist; hooded assassin; anime girl; anime schoolboy;
bearded dwarf; orc chieftain; medieval peasant; flapper; rock star; skateboarder; chef; nun; watchmaker; dryad;
valkyrie; necromancer; ninja"""
ANIMALS = """fox; cat; black panther; golden retriever; owl; raven; wolf; red dragon; phoenix; koi fish; octopus;
whale; elephant; tiger; snow leopard; horse; unicorn; stag; rabbit; hedgehog; frog; chameleon; peacock; hummingbird;
jellyfish; sea turtle; polar bear; giant panda; squirrel; capybara; lion; corgi; griffin; kraken; spider; moth;
butterfly; penguin; flamingo; crocodile; velociraptor; tyrannosaurus; mammoth; goldfish; parrot; otter; red panda;
sloth; goat; rooster"""
OBJECTS = """teapot; pocket watch; steam locomotive; vintage motorcycle; sports car; sailing ship; spaceship; hot air
balloon; giant robot; mech; grand piano; electric guitar; crystal skull; sword in a stone; treasure chest;
typewriter; lighthouse; bouquet of roses; sunflower; bonsai tree; mushroom; glass of red wine; bowl of ramen;
strawberry cake; hamburger; sushi; sneaker; perfume bottle; wrist watch; armchair; lantern; hourglass; old book;
camera; retro computer; space station; submarine; zeppelin; tank; bicycle; pickup truck; coffee cup; chess board;
violin; mask of gold; throne of bones; cathedral of glass; snow globe; music box; jukebox; telescope; rubber duck;
stained glass window; dreamcatcher; logo of a bear; isometric room; treehouse; windmill; vending machine; floating
island; croissant; pineapple; diamond ring; potion bottle"""
SCENES = """misty forest; desert canyon; alien planet; cyberpunk city; medieval village; mountain lake; tropical
beach; ruined temple; frozen tundra; lavender field; volcano; coral reef; bamboo grove; abandoned factory; space
colony; gothic castle; japanese garden; venetian canal; subway station; autumn park; wheat field; rocky coast;
waterfall; swamp; underwater city; steampunk harbour; floating islands; snowy alps; savannah; futuristic metropolis;
old library; cozy cottage; moroccan market; paris street; new york skyline; tokyo alley; scottish highlands; rice
terraces; fjord; salt flats; haunted mansion; art deco hotel lobby; brutalist building; greenhouse; cherry orchard;
galaxy; nebula; ancient egyptian tomb; crystal cave; post-apocalyptic highway; diner at the roadside; amusement park;
throne room; monastery; battlefield; oasis"""
ADJECTIVES = """beautiful; tiny; gigantic; ancient; glowing; mysterious; elegant; weathered; futuristic; melancholic;
cheerful; angry; sleeping; majestic; haunted; colorful; translucent; mechanical; floating; burning; frozen; golden;
chubby; ethereal; sinister; lonely; adorable; royal; biomechanical; psychedelic; minimalist; ornate; muscular;
delicate; rusty; cosmic; surreal; noble; shy; fierce; broken; furry; wooden; crystalline; ghostly; baroque; neon;
dusty; wild; serene"""
ACTIONS = """reading a book; riding a bicycle; walking in the rain; dancing; drinking coffee; playing chess; fighting
a dragon; looking at the stars; sitting on a throne; holding a lantern; wearing a red coat; wearing a crown; wearing
headphones; wearing a space suit; in ornate armor; cooking noodles; playing the violin; running from an explosion;
floating in space; praying; smiling at the camera; with wings; covered in flowers; surrounded by butterflies; casting
a spell; eating pizza; sleeping under a tree; swimming; driving a convertible; standing on a cliff; made of smoke;
made of glass; carved from wood; emerging from the water; with glowing eyes; made of origami paper; in the style of a
renaissance portrait; knitting; with a tiny hat; holding a sword; playing a synthesizer; waiting for a train; jumping
over a puddle; in a business suit"""
PLACES = """in a forest; on the moon; at the beach; in a neon city; under water; in the desert; on a rooftop; in a
castle; in a field of flowers; in a snowstorm; in a dark alley; in space; on a pirate ship; in a library; at a night
market; in a japanese garden; on a mountain peak; in a ruined church; in a kitchen; on a train; in the jungle; by the
fireplace; in a laboratory; inside a volcano; on a frozen lake; in times square; in a wheat field; beneath the
northern lights; in an abandoned hospital; at a royal court; in a greenhouse; on a cloud; in a swamp; on the surface
of mars; in a cafe"""
MEDIA = """oil painting; watercolor; digital painting; concept art; photograph; pencil sketch; charcoal drawing; 3d
render; pixel art; anime key visual; comic book panel; polaroid photo; low poly render; ukiyo-e print; stained glass;
sculpture; vector illustration; matte painting; linocut; claymation still; studio portrait; tarot card; movie poster;
graffiti; gouache; ink wash painting; fashion photograph; children's book illustration; isometric render; blueprint;
embroidery; macro photograph; film still; character sheet; sticker design; vintage postcard; album cover; art nouveau
poster"""
ARTISTS = """greg rutkowski; alphonse mucha; artgerm; claude monet; vincent van gogh; studio ghibli; hayao miyazaki;
makoto shinkai; wlop; ross tran; beeple; zdzislaw beksinski; h. r. giger; salvador dali; edward hopper; gustav klimt;
caspar david friedrich; john william waterhouse; ivan aivazovsky; thomas kinkade; moebius; norman rockwell; hokusai;
ansel adams; annie leibovitz; wes anderson; tim burton; simon stalenhag; craig mullins; james gurney; frank frazetta;
rembrandt; caravaggio; egon schiele; banksy; yoshitaka amano; syd mead; albert bierstadt; peter mohrbacher; loish;
magali villeneuve; ilya kuvshinov; akira toriyama; leonardo da vinci; william turner; georgia o'keeffe; escher; boris
vallejo"""
MODIFIERS = """highly detailed; intricate; trending on artstation; 8k; 4k; sharp focus; cinematic lighting; octane
render; unreal engine; volumetric lighting; concept art; smooth; dramatic lighting; masterpiece; best quality;
hyperrealistic; photorealistic; depth of field; bokeh; golden hour; soft lighting; award winning; vivid colors;
pastel colors; moody; symmetrical; wide angle; close up; 35mm; 85 mm lens; f 1.8; film grain; hdr; ray tracing;
global illumination; artstation; deviantart; elegant; epic composition; rule of thirds; dark fantasy; steampunk;
cyberpunk; vaporwave; art deco; gothic; minimalism; surrealism; impressionism; fantasy; sci-fi; horror; cute; kawaii;
black and white; sepia; monochrome; neon lights; rim light; backlit; foggy; rainy; starry night; autumn colors;
bioluminescent; iridescent; ultra wide shot; aerial view; low angle; portrait; full body; matte; glossy; thick brush
strokes; clean lines; flat shading; cel shaded; national geographic; hasselblad; kodak portra 400; long exposure;
tilt shift; double exposure; dynamic pose; realistic; ultra hd; studio lighting; reflections; vintage; 1980s; 1920s;
baroque; rococo; ultra realistic; no text; white background"""
MOODS = """at dawn; at dusk; at night; at noon; in winter; in spring; in summer; in autumn; after the rain; in thick
fog; during a thunderstorm; under a full moon; at sunset; in the morning light; by candlelight; in the year 2099"""


def words(text: str) -> list[str]:
    return [" ".join(word.split()) for word in text.split(";")]


class Vocabulary:
    """Words of which the first are far more popular than the last, as in every collection of prompts."""

    def __init__(self, text: str) -> None:
        self.words = words(text)
        self.weights = list(accumulate(1 / (rank + 3) ** 0.7 for rank in range(len(self.words))))

    def draw(self, rng: random.Random) -> str:
        return rng.choices(self.words, cum_weights=self.weights)[0]

    def sample(self, rng: random.Random, count: int) -> list[str]:
        """Up to `count` words, none twice."""
        return list(dict.fromkeys(rng.choices(self.words, cum_weights=self.weights, k=count)))


SUBJECTS = tuple(Vocabulary(text) for text in (PEOPLE, ANIMALS, OBJECTS))
SCENERY, QUALITIES, DOINGS, SURROUNDINGS, TECHNIQUES, PAINTERS, STYLES, TIMES = (
    Vocabulary(text) for text in (SCENES, ADJECTIVES, ACTIONS, PLACES, MEDIA, ARTISTS, MODIFIERS, MOODS)
)


def made_up_prompts(count: int, seed: int = 0) -> Iterator[str]:
    """`count` prompts, no two alike; the same ones on every machine, and the first of more are the fewer."""
    rng = random.Random(seed)
    seen: set[str] = set()
    while len(seen) < count:
        prompt = made_up_prompt(rng)
        if prompt not in seen:
            seen.add(prompt)
            yield prompt


def made_up_topics(count: int, seed: int = 0) -> Iterator[str]:
    """`count` texts like those of a validator's topics: short, about a kind of picture or a thing and its look."""
    rng = random.Random(f"topics {seed}")
    for number in range(count):
        if number % 2:
            yield f"a {STYLES.draw(rng)} image of {rng.choice([*SUBJECTS, SCENERY]).draw(rng)}"
        else:
            yield ", ".join([f"a image of {rng.choice([*SUBJECTS, SCENERY]).draw(rng)}", *STYLES.sample(rng, 3)])


def made_up_prompt(rng: random.Random) -> str:
    """A sentence (one in five), or what is to be seen and a list of how."""
    seen = _scenery(rng) if rng.random() < 0.3 else _subject(rng)
    if rng.random() < 0.2:
        return f"{seen} {TIMES.draw(rng)}" if rng.random() < 0.5 else f"{_article(TECHNIQUES.draw(rng))} of {seen}"
    how = STYLES.sample(rng, rng.randint(1, 9))
    if rng.random() < 0.1:
        strongest = rng.randrange(len(how))
        how[strongest] = f"({how[strongest]}:1.{rng.randint(1, 5)})"
    if rng.random() < 0.5:
        how.insert(rng.randint(0, len(how)), "by " + " and ".join(PAINTERS.sample(rng, rng.randint(1, 3))))
    first = f"{TECHNIQUES.draw(rng)} of {seen}" if rng.random() < 0.5 else seen
    return ", ".join([first, *how])


def _subject(rng: random.Random) -> str:
    noun = rng.choices(SUBJECTS, (6, 3, 4))[0].draw(rng)
    parts = [_article(f"{QUALITIES.draw(rng)} {noun}" if rng.random() < 0.6 else noun)]
    if rng.random() < 0.5:
        parts.append(DOINGS.draw(rng))
    if rng.random() < 0.5:
        parts.append(SURROUNDINGS.draw(rng))
    return " ".join(parts)


def _scenery(rng: random.Random) -> str:
    scene = _article(f"{QUALITIES.draw(rng)} {SCENERY.draw(rng)}")
    return f"{scene} {TIMES.draw(rng)}" if rng.random() < 0.4 else scene


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
