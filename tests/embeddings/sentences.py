"""Two hundred texts of our own, short and long, in many scripts."""

SHORT = """
Hello!
The kettle is on.
Nobody expected the bridge to open again before spring.
A reproducible build gives the same bytes on every machine.
She folded the letter twice and put it under the clock.
How do I reset my password?
Where can I find the opening hours of the library?
Rain is expected in the north, sunshine in the south.
The quarterly report shows a loss of 3.7 million euros.
`for i in range(10): print(i)`
SELECT name FROM users WHERE id = 42;
Error 404: the page was not found.
He said: "Never again!" – and bought another one.
Cats sleep for most of the day.
Dogs, on the other hand, want to be walked.
The train to Lyon leaves at 06:45 from platform 9.
My knee hurts when I climb stairs.
Interest rates were raised by a quarter of a point.
Photosynthesis turns light, water and carbon dioxide into sugar.
The committee adjourned without a decision.
Three eggs, a cup of flour, a pinch of salt.
An unbelievably antidisestablishmentarian floccinaucinihilipilification.
x
42
...
e = mc^2
https://example.com/path?query=1#fragment
😀 🚀 🌧️
naïve café, déjà vu, Ångström, Żółć
ALL CAPITALS ARE LOUD
tabs	and  several   spaces
Der Zug hat wie immer Verspätung.
Wo ist der nächste Bahnhof?
Die Katze schläft auf dem Ofen.
Straßenbahnhaltestelle und Donaudampfschifffahrt
Le chat dort sur le rebord de la fenêtre.
Je voudrais un café et deux croissants.
¿Dónde está la biblioteca?
El perro corre por la playa todas las mañanas.
Il treno parte alle otto in punto.
O gato dorme no sofá azul.
De fietsen staan achter het huis.
Kissan nimi on Musti.
A macska az asztal alatt alszik.
Kot śpi na parapecie.
Pes běží po zahradě.
Кошка спит на подоконнике.
Где находится ближайшая станция?
Кіт спить на підвіконні.
Η γάτα κοιμάται στο παράθυρο.
Kedi pencerede uyuyor.
Con mèo đang ngủ trên ghế.
القطة تنام على النافذة.
أين تقع أقرب محطة؟
החתול ישן על אדן החלון.
گربه روی پنجره خوابیده است.
बिल्ली खिड़की पर सो रही है।
বিড়াল জানালায় ঘুমাচ্ছে।
பூனை ஜன்னலில் தூங்குகிறது.
แมวนอนอยู่บนหน้าต่าง
猫在窗台上睡觉。
最近的车站在哪里？
猫が窓辺で眠っている。
一番近い駅はどこですか。
고양이가 창가에서 자고 있다.
კატა ფანჯარაზე სძინავს.
Կատուն քնած է պատուհանին։
ድመቷ በመስኮት ላይ ተኝታለች።
""".strip().split("\n")

LONG = """
The lighthouse had been dark for eleven years when the letter arrived, and by then most people in the village had
stopped looking out to sea at night, because there was nothing there that they did not already know.
In a paged cache the keys and values of a sequence lie in blocks of a fixed size, which need not be neighbours, so that
memory is given out as it is needed and nothing is lost but the rest of the last block.
Put the beans into cold water the evening before, change the water in the morning, and let them boil slowly with a leaf
of bay, an onion and a spoon of oil until they are soft; salt comes last.
Whoever rents out a flat must hand it over in the state that was agreed, and must keep it in that state as long as the
contract lasts, unless the damage was done by those who live there.
Patients who took the drug slept forty minutes longer on average than those who were given sugar, but woke up more often,
and after eight weeks the difference was within what chance would explain.
The second violin enters a bar too early, as it does in every performance of this piece, and the conductor, who has seen
it all, waits without lifting an eyebrow.
""".strip().split("\n")

LONG = [" ".join(LONG[i:i + 2]) for i in range(0, len(LONG), 2)]


def sentences():
    made = SHORT + LONG
    step = 0
    while len(made) < 200:
        count = 2 + step % 5
        parts = [SHORT[(step * 13 + i * 29) % len(SHORT)] for i in range(count)]
        if step % 6 == 0:
            parts.append(LONG[step // 6 % len(LONG)])
        made.append(" ".join(parts))
        step += 1
    return made
