# Trivial: annotated tags and nothing else. It says what is built, and not by whom.
package hallmark.signing

default allow := false

allow if input.git.isAnnotatedTag
