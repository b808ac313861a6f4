# The server: one static program and nothing else.
#
# Run `messenger/stage` first; it puts the program into bin/. The second pattern below never matches
# a file. It is there to appear in Docker's error message if the program is missing.
FROM scratch
COPY bin/messenger-server bin/run-messenger-stage-first* /

ARG REVISION=unknown
LABEL org.opencontainers.image.title="messenger-server" \
      org.opencontainers.image.description="One-room messenger: the gRPC server" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"

# The number of nobody: there is no /etc/passwd to look up a name.
USER 65534:65534
EXPOSE 51075
# The program checks itself, because the image has no shell and no curl.
HEALTHCHECK --interval=3s --timeout=2s --start-period=10s --retries=3 CMD ["/messenger-server", "--health-check"]
ENTRYPOINT ["/messenger-server"]
