#!/usr/bin/env python3
"""Make data/carrier.txt: the first six stories of The Adventures of Sherlock Holmes, one paragraph a line.

    scripts/carrier.py 1661.txt > data/carrier.txt

Takes the plain text of Project Gutenberg's eBook 1661; what Project Gutenberg wrote itself is left out.
"""

import re
import sys

text = open(sys.argv[1], encoding="utf-8-sig", newline=None).read()
stories = text[text.index("ADVENTURE I. A SCANDAL") : text.index("VII. THE ADVENTURE OF THE BLUE CARBUNCLE")]
for paragraph in re.split(r"\n\s*\n", stories):
    paragraph = " ".join(paragraph.split())
    if re.search("[a-z]", paragraph):  # not a heading
        print(paragraph)
