# The acceptance tests: one static program and nothing else.
#
# Run `messenger/stage` first; it puts the program into bin/. The second pattern below never matches
# a file. It is there to appear in Docker's error message if the program is missing.
FROM scratch
COPY bin/messenger-acceptance bin/run-messenger-stage-first* /
USER 65534:65534
ENTRYPOINT ["/messenger-acceptance"]
