# The image: compiled JavaScript, what it needs at run time, nothing else. One image, three roles (ERRAND_ROLES).
# It says nothing of authentication: outside loopback the operator must write ERRAND_AUTH, or the start is refused.
# Next room: compose.yaml; test/drills/image.ts builds and runs this for real.
FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc preflight.js ./
# No install script is needed to compile, so none runs: the base brings Node, and no database is embedded here.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN npm run build
# What handler modules import as "errand" is the compiled entry.
RUN npm pkg set exports=./dist/errand.js \
  && npm ci --ignore-scripts --omit=dev --omit=optional --no-audit --no-fund \
  # A third of it is for those who write programs, not for those who run them. Licences stay.
  && find node_modules -type f ! -iname 'licen[cs]e*' \
    \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.cts' -o -name '*.d.mts' -o -name '*.md' \) -delete

FROM node:24-bookworm-slim
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8080
WORKDIR /app
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY --from=build /app/package.json ./
COPY migrations ./migrations
COPY openapi ./openapi
COPY LICENSE ./
# The command as the guides call it: docker exec … errand schedules apply -f …
RUN printf '#!/bin/sh\nexec node /app/dist/main.js "$@"\n' > /usr/local/bin/errand && chmod 755 /usr/local/bin/errand
USER node
EXPOSE 8080
# Liveness, not readiness: a database that is away must not restart what waits for it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + process.env.PORT + '/health/live').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# Exec form: SIGTERM reaches Node, which drains and exits with 0.
CMD ["node", "dist/main.js", "serve"]
