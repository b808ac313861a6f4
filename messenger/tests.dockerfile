# The acceptance tests: one static program and nothing else.
#
# `messenger/stage` puts the program into bin/ first. The second pattern below matches nothing, ever: it is there to be read in
# the error message of a build that finds no program.
FROM scratch
COPY bin/messenger-acceptance bin/run-messenger-stage-first* /
USER 65534:65534
ENTRYPOINT ["/messenger-acceptance"]
