package hallmark.signing_test

import data.hallmark.testing

test_annotated if testing.allowed with input as testing.release

test_unsigned if testing.allowed with input as testing.removed("/git/tag/signer")

test_lightweight if testing.refused with input as testing.replaced("/git/isAnnotatedTag", false)

test_nothing if testing.refused with input as {"kind": "hallmark.signing.input/v1"}
