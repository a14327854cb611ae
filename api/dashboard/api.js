// api.js - asks the service.  What changes something carries the session's CSRF token.

const SESSION = "/v1/session", CSRF = "X-Repquant-Csrf";

export const who = { csrf: null, team: null, role: null, scopes: [], name: null, session: false };

/** A refusal, by its problem document and status; status 0: there was no whole answer. */
export class Problem extends Error {
    constructor(status, body) {
        super(body.detail || `status ${status}`);
        Object.assign(this, body, { status });
    }
}

/** Whether the same may go well in a while: nobody answered, too much was asked, or the service or what stands before it is not well (a full disk stays so). */
export function passing(e) {
    return e instanceof Problem && (e.status === 0 || e.status === 429 || e.status >= 500 && e.status !== 507);
}

/** What comes over the network, or says why it does not. */
async function arrived(promise, signal) {
    try {
        return await promise;
    } catch (e) {
        throw signal && signal.aborted ? e : new Problem(0, { title: "The service does not answer", detail: e.message });
    }
}

const typeOf = (answer) => answer.headers.get("Content-Type") || "";

async function refusal(answer, signal) {
    return new Problem(answer.status, typeOf(answer).includes("json") ? await arrived(answer.json(), signal)
        : { title: "The service failed", detail: `it answered with status ${answer.status}` });
}

async function read(answer, signal) {
    return arrived(typeOf(answer).startsWith("application/json") ? answer.json() : answer.text(), signal);
}

let ahead = 0;      // milliseconds by which the service's clock is before the browser's

/** Now, by the clock that the service's times are of.  Its answers tell the second. */
export function now() {
    return new Date(Date.now() + (Math.abs(ahead) < 2000 ? 0 : ahead));
}

async function ask(method, path, headers, body, signal) {
    const fields = { ...headers };
    if (who.csrf && method !== "GET")
        fields[CSRF] = who.csrf;
    const answer = await arrived(fetch(path, { method, headers: fields, body, signal, cache: "no-store" }), signal);
    ahead = Date.parse(answer.headers.get("Date")) - Date.now() || 0;
    return answer;
}

/** Whether another tab logged in anew, as the same one of the same team: its session is ours then.  Of another one the document hears ("another"). */
async function renewed() {
    const { team, token_id: token } = who, same = await recognise() && who.team === team && who.token_id === token;
    if (!same)
        document.dispatchEvent(new Event("another"));
    return same;
}

/**
 * The answer itself, for those who need its header fields; throws a Problem unless it is 2xx.
 * Where a session has ended that something should be changed in, the document hears of it ("loggedout").
 */
export async function send(method, path, { body, headers = {}, signal } = {}) {
    const answer = await ask(method, path, headers, body, signal);
    if (answer.ok)
        return answer;
    const refused = await refusal(answer, signal);
    if (refused.status === 401 && method !== "GET" && path !== SESSION)
        document.dispatchEvent(new Event("loggedout"));
    if (refused.status !== 403 || refused.where !== CSRF || !await renewed())
        throw refused;
    const again = await ask(method, path, headers, body, signal);
    if (!again.ok)
        throw await refusal(again, signal);
    return again;
}

export async function get(path, signal) {
    return read(await send("GET", path, { signal }), signal);
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
        who.csrf = (await get(SESSION)).csrf_token;
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
    await send("POST", SESSION, { body: "{}", headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` } });
    return recognise();
}

export async function logout() {
    await remove(SESSION).catch((e) => {
        if (e.status !== 401)       // it had ended
            throw e;
    });
    Object.assign(who, { csrf: null, session: false, scopes: [] });
}
