// api.js - asks the service.  What changes something carries the session's CSRF token.

export const who = { csrf: null, team: null, role: null, scopes: [], name: null, session: false };

export class Problem extends Error {
    constructor(status, body) {
        super(body.detail || `status ${status}`);
        Object.assign(this, body, { status });
    }
}

async function read(answer) {
    const type = answer.headers.get("Content-Type") || "";
    if (answer.ok)
        return type.startsWith("application/json") ? answer.json() : answer.text();
    const body = type.includes("json") ? await answer.json() : { title: "The service failed", detail: `it answered with status ${answer.status}` };
    throw new Problem(answer.status, body);
}

/** The answer itself, for those who need its header fields; throws a Problem unless it is 2xx. */
export async function send(method, path, { body, headers = {}, signal } = {}) {
    const fields = { ...headers };
    if (who.csrf && method !== "GET")
        fields["X-Repquant-Csrf"] = who.csrf;
    const answer = await fetch(path, { method, headers: fields, body, signal, cache: "no-store" });
    if (!answer.ok)
        await read(answer);
    return answer;
}

export async function get(path, signal) {
    return read(await send("GET", path, { signal }));
}

export async function post(path, value = {}, method = "POST") {
    return read(await send(method, path, { body: JSON.stringify(value), headers: { "Content-Type": "application/json" } }));
}

export async function remove(path) {
    await send("DELETE", path);
}

/** All pages of a list, `most` rows at most. */
export async function all(path, most = 1000) {
    const rows = [];
    for (let cursor = null; rows.length < most;) {
        const page = await get(`${path}${path.includes("?") ? "&" : "?"}limit=200${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
        rows.push(...page.data);
        cursor = page.next_cursor;
        if (!cursor)
            break;
    }
    return rows;
}

export function may(scope) {
    return who.scopes.includes("admin") || who.scopes.includes(scope);
}

/** Who we are: by the session's cookie, by a proxy, or because the service wants no tokens.  False: somebody has to log in. */
export async function recognise() {
    Object.assign(who, { csrf: null, session: false });
    try {
        who.csrf = (await get("/v1/session")).csrf_token;
        who.session = true;
    } catch (e) {
        if (e.status === 401)
            return false;
        if (e.status !== 404)
            throw e;
    }
    Object.assign(who, await get("/v1/whoami"));
    return true;
}

export async function login(token) {
    await send("POST", "/v1/session", { body: "{}", headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` } });
    return recognise();
}

export async function logout() {
    await remove("/v1/session");
    Object.assign(who, { csrf: null, session: false, scopes: [] });
}
