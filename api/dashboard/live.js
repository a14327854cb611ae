// live.js - what happens now.  Pages see only every(); where the service offers a stream of events, watchJob() is the one place to take it up.
import { get } from "./api.js";

export const TERMINAL = ["succeeded", "failed", "canceled"];

function pause(ms, signal) {
    return new Promise((resolve) => {
        const timer = setTimeout(resolve, ms);
        signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
    });
}

/** Runs step() now and then every `ms` until it returns false or the signal is aborted; not while the page is hidden. */
export async function every(ms, signal, step) {
    while (!signal.aborted) {
        if (!document.hidden && await step() === false)
            return;
        await pause(ms, signal);
    }
}

/** Calls update(job, new events) whenever something has changed, until the job has ended.  Events come in order and once each. */
export async function watchJob(id, signal, update) {
    let after = 0, before = "";
    await every(700, signal, async () => {
        const job = await get(`/v1/jobs/${id}`, signal), events = [];
        for (let more = true; more;) {
            const page = await get(`/v1/jobs/${id}/events?after=${after}&limit=1000`, signal);
            events.push(...page.data);
            after = page.data.length ? page.data[page.data.length - 1].seq : after;
            more = page.next_cursor !== null;
        }
        const now = JSON.stringify(job);
        if (now !== before || events.length)
            update(job, events);
        before = now;
        return !TERMINAL.includes(job.state);
    });
}
