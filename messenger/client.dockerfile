# The client: one static program and nothing else.
#
# `messenger/stage` puts the program into bin/ first. The second pattern below matches nothing, ever: it is there to be read in
# the error message of a build that finds no program.
FROM scratch
COPY bin/messenger-client bin/run-messenger-stage-first* /

ARG REVISION=unknown
LABEL org.opencontainers.image.title="messenger-client" \
      org.opencontainers.image.description="One-room messenger: the client with its HTTP interface" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"

# Nobody's number: there is no /etc/passwd to look a name up in.
USER 65534:65534
EXPOSE 8080
# The program checks itself, as there is no shell and no curl.
HEALTHCHECK --interval=3s --timeout=2s --start-period=10s --retries=3 CMD ["/messenger-client", "--health-check"]
ENTRYPOINT ["/messenger-client"]
