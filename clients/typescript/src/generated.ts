// Made by `make types` from spec/openapi.json. Change that.

export interface paths {
    "/api/licenses/sessions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Take a seat
         * @description The proof is a license key or a user's JWT, and then `feature`, `userId` and `clientId` say whose seat it is (a JWT names the user itself); or it is a lease token, to come back to that lease, and then the body may be empty. The same client asking again keeps its seat, under a new token. When every seat is taken the answer is 409 with the words "Maximum user limit reached", who holds them, and when to ask again. With `wait`, in seconds, it comes when it is the client's turn, or that time is over: at most 60 s. A 409 then says the place in the line, which is kept for 15 s: ask again by then. `priority`, 0 to 9, moves the place ahead by 30 s for each step; a user's JWT must prove it.
         */
        post: operations["acquire"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/licenses/sessions/heartbeat": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Keep a seat
         * @description `idleFor`: for how long its person has done nothing. `nextIn`: when the next beat is to be expected, if later than usual. `closing`: the tab says goodbye; the seat is given up shortly unless another beat comes. 410 says that the lease is lost, and whether acquiring with the same token may bring it back. A page that is closed cannot set headers any more (`sendBeacon`): with `closing` the lease token may stand in the body, as `token`, and the body may be `text/plain`. It proves nothing but a goodbye.
         */
        post: operations["heartbeat"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/licenses/sessions/current": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Give a seat back
         * @description `released` is false when there was nothing left to give back, which is as good.
         */
        delete: operations["release"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/sessions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List live sessions, by id, or with `newestFirst` one user's latest first
         * @description Never their tokens. Their `data` belongs to the application: only backends may ask for it, and an application's key lists one user's sessions at a time.
         */
        get: operations["list_sessions"];
        put?: never;
        /**
         * Begin a session
         * @description With `userId`: a user signs in; without: a visitor's, for its data alone. The session whose token is in X-Session-Token, or that `replaces` names, ends in the same step, and its data is kept below the new `data` if it was a visitor's or the same user's: no token from before a sign-in is worth anything after it. With `limit`, a user who has as many sessions as that is refused, or their oldest is ended, as `atLimit` says; `ask` answers which there are, to begin again with some of them in `ending`. The answer holds the token, this once.
         */
        post: operations["begin_session"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/sessions/current": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Check a person's token
         * @description Marks the session as used, if that is due, unless `touch` is false. `adopted`: it is the token of a system that was here before, whose sessions were taken over. 401 with a code that begins with `session_` says that it is the person who must sign in again, and why; any other 401 is about the API key.
         */
        get: operations["check_session"];
        put?: never;
        post?: never;
        /**
         * Sign a person out
         * @description The session and the seats that belong to it end. `ended` is 0 when it was over already, which is as good.
         */
        delete: operations["end_current"];
        options?: never;
        head?: never;
        /**
         * Change keys of the session's data
         * @description Keys named by neither `set` nor `unset` stay as they are: parallel requests lose nothing.
         */
        patch: operations["save_current"];
        trace?: never;
    };
    "/api/sessions/current/rotate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Give the session a new token
         * @description The old one works for `grace` seconds more, 20 unless said otherwise, for tabs whose requests are under way. With `level`, the person has just proved who they are again. `token`: the new one, where a backend does not leave it to chance.
         */
        post: operations["rotate_current"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/sessions/current/end-others": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Sign a person out everywhere else */
        post: operations["end_others"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/sessions/end": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * End sessions by their ids, or all of a user's but some
         * @description `actor` is for backends, which know who asked them: it is kept as `app:<id of the key>:<actor>`. Whoever else asks is named by their key.
         */
        post: operations["end_sessions"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/user/active-sessions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Show a person where they are signed in
         * @description Newest first; the session that asks is always on the first page. Where sessions have not been set up yet, the list is empty and `message` says so.
         */
        get: operations["list_active_sessions"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/user/active-sessions/{sessionId}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Sign a person out on one device
         * @description The seats that belong to the session come free in the same step. Ending the session that asks signs the person out and takes the cookie back. Somebody else's session is 404.
         */
        delete: operations["end_active_session"];
        options?: never;
        head?: never;
        /**
         * Let a person name a device of theirs
         * @description The name is shown in their lists from then on, beside what the device says of itself; null takes it back. A sign-in that replaces the session in the same browser keeps it. Somebody else's session is 404.
         */
        patch: operations["rename_active_session"];
        trace?: never;
    };
    "/api/user/active-sessions/logout-others": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Sign a person out on all other devices
         * @description All their sessions but the one that asks end. A copy under the same `Idempotency-Key` ends nothing that has begun since.
         */
        post: operations["end_other_active_sessions"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** AcquireBody */
        AcquireBody: {
            feature?: string | null;
            userId?: string | null;
            clientId?: string | null;
            licenseId?: string | null;
            sessionId?: string | null;
            device?: components["schemas"]["DeviceBody"] | null;
            /** @description Left out: false. */
            takeover?: boolean;
            /** @description Left out: 0. */
            wait?: number;
            priority?: number | null;
        };
        /**
         * ActiveSession
         * @description Somewhere a person is signed in. `seats`: how many seats on licenses it holds now.
         *
         *     `name`: what the person calls the device. `lastDevice`, `lastIpAddress`, `lastLocation`: what it was last
         *     used from, null where that is what it began on.
         */
        ActiveSession: {
            id: string;
            name: string | null;
            device: string;
            browser: string | null;
            os: string | null;
            kind: string;
            ipAddress: string | null;
            location: string | null;
            lastDevice: string | null;
            lastIpAddress: string | null;
            lastLocation: string | null;
            createdAt: string;
            lastUsedAt: string;
            expiresAt: string;
            isCurrent: boolean;
            seats: number;
        };
        /**
         * ActiveSessions
         * @description A page of them, newest first. `total` counts all; `next` goes into `after`, null: this was all.
         *     `canRename`: whether devices can be named here, now.
         */
        ActiveSessions: {
            /** @description Left out: true. */
            success?: boolean;
            data: components["schemas"]["ActiveSession"][];
            total: number;
            next: string | null;
            message: string | null;
            /** @description Left out: false. */
            canRename?: boolean;
        };
        /**
         * AtLimit
         * @description What happens when a user who signs in has as many sessions as allowed.
         * @enum {unknown}
         */
        AtLimit: "ask" | "deny" | "end_oldest";
        /** BeatBody */
        BeatBody: {
            expiresIn: number;
            state: string;
        };
        /** BeginBody */
        BeginBody: {
            userId?: string | null;
            data?: {
                [key: string]: unknown;
            };
            /** @description Left out: "default". */
            timeouts?: ("aal1" | "aal2" | "aal3" | "default" | "office-day" | "owasp-high") | components["schemas"]["TimeoutsBody"];
            device?: components["schemas"]["SessionDevice"] | null;
            /** @description Left out: 1. */
            level?: number;
            impersonator?: string | null;
            replaces?: string | null;
            /** @description Left out: []. */
            ending?: string[];
            limit?: number | null;
            /** @description Left out: "end_oldest". */
            atLimit?: components["schemas"]["AtLimit"];
        };
        /**
         * BegunAnswer
         * @description `token` is told this once: only its hash is kept.
         */
        BegunAnswer: {
            session: components["schemas"]["SessionBody"];
            token: string;
        };
        /**
         * Device
         * @description As reported by the client or read from its request; nothing here is trusted for a decision.
         *
         *     `kind` is desktop, phone, tablet, extension, server or unknown, unless an application has words of
         *     its own.
         */
        Device: {
            name?: string | null;
            browser?: string | null;
            os?: string | null;
            kind?: string | null;
            ip?: string | null;
            user_agent?: string | null;
            place?: string | null;
        };
        /** DeviceBody */
        DeviceBody: {
            name?: string | null;
            browser?: string | null;
            os?: string | null;
            kind?: string | null;
        };
        /**
         * DeviceName
         * @description What a person calls a device. null, or only spaces: as it says itself.
         */
        DeviceName: {
            name: string | null;
        };
        /**
         * Done[BeatBody]
         * @description Every success. `message` says in plain words what was done, where that is worth saying.
         */
        Done_BeatBody_: {
            success: boolean;
            data: components["schemas"]["BeatBody"];
            message?: string;
        };
        /**
         * Done[BegunAnswer]
         * @description Every success. `message` says in plain words what was done, where that is worth saying.
         */
        Done_BegunAnswer_: {
            success: boolean;
            data: components["schemas"]["BegunAnswer"];
            message?: string;
        };
        /**
         * Done[EndedAnswer]
         * @description Every success. `message` says in plain words what was done, where that is worth saying.
         */
        Done_EndedAnswer_: {
            success: boolean;
            data: components["schemas"]["EndedAnswer"];
            message?: string;
        };
        /**
         * Done[EndedIdsAnswer]
         * @description Every success. `message` says in plain words what was done, where that is worth saying.
         */
        Done_EndedIdsAnswer_: {
            success: boolean;
            data: components["schemas"]["EndedIdsAnswer"];
            message?: string;
        };
        /**
         * Done[Page[SessionBody]]
         * @description Every success. `message` says in plain words what was done, where that is worth saying.
         */
        Done_Page_SessionBody__: {
            success: boolean;
            data: components["schemas"]["Page_SessionBody_"];
            message?: string;
        };
        /**
         * Done[ReleasedBody]
         * @description Every success. `message` says in plain words what was done, where that is worth saying.
         */
        Done_ReleasedBody_: {
            success: boolean;
            data: components["schemas"]["ReleasedBody"];
            message?: string;
        };
        /**
         * Done[Renamed]
         * @description Every success. `message` says in plain words what was done, where that is worth saying.
         */
        Done_Renamed_: {
            success: boolean;
            data: components["schemas"]["Renamed"];
            message?: string;
        };
        /**
         * Done[SavedAnswer]
         * @description Every success. `message` says in plain words what was done, where that is worth saying.
         */
        Done_SavedAnswer_: {
            success: boolean;
            data: components["schemas"]["SavedAnswer"];
            message?: string;
        };
        /**
         * Done[SeatBody]
         * @description Every success. `message` says in plain words what was done, where that is worth saying.
         */
        Done_SeatBody_: {
            success: boolean;
            data: components["schemas"]["SeatBody"];
            message?: string;
        };
        /**
         * Done[SessionAnswer]
         * @description Every success. `message` says in plain words what was done, where that is worth saying.
         */
        Done_SessionAnswer_: {
            success: boolean;
            data: components["schemas"]["SessionAnswer"];
            message?: string;
        };
        /**
         * Done[SignedOut]
         * @description Every success. `message` says in plain words what was done, where that is worth saying.
         */
        Done_SignedOut_: {
            success: boolean;
            data: components["schemas"]["SignedOut"];
            message?: string;
        };
        /** EndBody */
        EndBody: {
            reason?: string;
        };
        /**
         * EndManyBody
         * @description `ids`, or all of `userId` but `keep`. `actor`: who did it, null for the holder itself; left out:
         *     the API key.
         */
        EndManyBody: {
            ids?: string[] | null;
            userId?: string | null;
            /** @description Left out: []. */
            keep?: string[];
            /** @description Left out: "ended". */
            reason?: string;
            actor?: string | null;
        };
        /** EndedAnswer */
        EndedAnswer: {
            ended: number;
        };
        /** EndedIdsAnswer */
        EndedIdsAnswer: {
            ended: number;
            ids: string[];
        };
        /** HeartbeatBody */
        HeartbeatBody: {
            idleFor?: number | null;
            nextIn?: number | null;
            /** @description Left out: false. */
            closing?: boolean;
            token?: string | null;
        };
        /**
         * HolderBody
         * @description Somebody else's seat, as a refused client may see it.
         */
        HolderBody: {
            userId: string;
            state: string;
            heldFor: number;
            lastBeatAgo: number;
            expiresIn: number;
            device?: components["schemas"]["Device"] | null;
        };
        /**
         * LeaseBody
         * @description A lease as people and operators see it. Ages and times left are seconds from the store's now.
         */
        LeaseBody: {
            leaseId: string;
            licenseId: string;
            licenseName?: string | null;
            feature: string;
            userId: string;
            clientId: string;
            fence: number;
            state: string;
            acquiredAt: string;
            lastBeatAt: string;
            lastBeatAgo: number;
            heldFor: number;
            /** @description Left out: 0.0. */
            expiresIn?: number;
            idleFor?: number | null;
            sessionId?: string | null;
            device?: components["schemas"]["Device"] | null;
            endedAt?: string | null;
            endReason?: string | null;
            /** @description Left out: false. */
            overdraft?: boolean;
            memberOf?: string[];
        };
        /**
         * Page[SessionBody]
         * @description Part of a long list. `next` goes into `after` to read on; null: this was all.
         */
        Page_SessionBody_: {
            items: components["schemas"]["SessionBody"][];
            next: string | null;
        };
        /**
         * Problem
         * @description RFC 9457, with our extensions. `details` says what to do.
         */
        Problem: {
            type: string;
            title: string;
            status: number;
            code: string;
            error: string;
            details?: string;
            instance?: string | null;
            limit?: number | null;
            inUse?: number | null;
            suspect?: number | null;
            overdraft?: number | null;
            reserved?: number | null;
            reservedFree?: number | null;
            retryAfter?: number | null;
            freeIn?: number | null;
            mine?: components["schemas"]["LeaseBody"][] | null;
            holders?: components["schemas"]["HolderBody"][] | null;
            reason?: string | null;
            resumable?: boolean | null;
            asked?: {
                [key: string]: number;
            } | null;
            position?: number | null;
            waiting?: number | null;
            estimate?: number | null;
            keepPlace?: number | null;
            number?: number | null;
        };
        /** ReleasedBody */
        ReleasedBody: {
            released: boolean;
        };
        /**
         * Renamed
         * @description What the device of a session is called now; null: as it says itself.
         */
        Renamed: {
            id: string;
            name: string | null;
        };
        /**
         * RotateBody
         * @description `grace`: for how long the old token still works. `level`: the user has just proved who they are
         *     again, at that level. `token`: the new one.
         */
        RotateBody: {
            grace?: number;
            level?: number | null;
            token?: string | null;
        };
        /**
         * SaveBody
         * @description Top-level keys to set and to remove; keys named by neither stay as they are.
         */
        SaveBody: {
            set?: {
                [key: string]: unknown;
            };
            /** @description Left out: []. */
            unset?: string[];
        };
        /** SavedAnswer */
        SavedAnswer: {
            revision: number;
        };
        /** SeatBody */
        SeatBody: {
            leaseId: string;
            token: string;
            fence: number;
            heartbeatInterval: number;
            lostAfter: number;
            expiresIn: number;
            resumed: boolean;
            /** @description Left out: false. */
            overdraft?: boolean;
        };
        /** SessionAnswer */
        SessionAnswer: {
            session: components["schemas"]["SessionBody"];
        };
        /**
         * SessionBody
         * @description A session. `at` is the store's now, which its durations count from.
         *
         *     `name`: what its user calls the device, told to backends alone. `lastDevice`: what it was last used from,
         *     where that is not `device`.
         */
        SessionBody: {
            id: string;
            userId: string | null;
            revision: number;
            createdAt: string;
            authenticatedAt: string;
            lastUsedAt: string;
            at: string;
            expiresIn: number;
            idleIn: number;
            idleTimeout: number;
            level: number;
            data?: {
                [key: string]: unknown;
            };
            impersonator?: string | null;
            name?: string | null;
            device?: components["schemas"]["SessionDevice"] | null;
            lastDevice?: components["schemas"]["SessionDevice"] | null;
        };
        /**
         * SessionDevice
         * @description The person's device, as the application's backend saw it.
         */
        SessionDevice: {
            name?: string | null;
            browser?: string | null;
            os?: string | null;
            kind?: string | null;
            ip?: string | null;
            userAgent?: string | null;
            place?: string | null;
        };
        /**
         * SessionProblem
         * @description A problem that concerns a session; `reason` is the code's last word.
         */
        SessionProblem: {
            type: string;
            title: string;
            status: number;
            code: string;
            error: string;
            details?: string;
            instance?: string | null;
            limit?: number | null;
            inUse?: number | null;
            suspect?: number | null;
            overdraft?: number | null;
            reserved?: number | null;
            reservedFree?: number | null;
            retryAfter?: number | null;
            freeIn?: number | null;
            mine?: components["schemas"]["LeaseBody"][] | null;
            holders?: components["schemas"]["HolderBody"][] | null;
            reason?: string | null;
            resumable?: boolean | null;
            asked?: {
                [key: string]: number;
            } | null;
            position?: number | null;
            waiting?: number | null;
            estimate?: number | null;
            keepPlace?: number | null;
            number?: number | null;
            endedAt?: string | null;
            endedBy?: string | null;
            endReason?: string | null;
            sessions?: components["schemas"]["SessionBody"][] | null;
        };
        /**
         * SignedOut
         * @description How many sessions were ended, and how many seats came free with them.
         */
        SignedOut: {
            ended: number;
            seats: number;
        };
        /**
         * TimeoutsBody
         * @description In seconds. What is left out takes its default.
         */
        TimeoutsBody: {
            lifetime?: number;
            idleTimeout?: number;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    acquire: {
        parameters: {
            query?: never;
            header?: {
                /** @description Names this request, of all that its caller sends: a UUID. A copy under the same key, within 10 minutes, is given the first answer, and does nothing. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: {
            content: {
                /**
                 * @example {
                 *       "feature": "editor",
                 *       "userId": "ada",
                 *       "clientId": "ada@studio-7",
                 *       "licenseId": "lic_7Hq2Vd9Xc4Bn6Mk1Zs3Ty0",
                 *       "sessionId": "ses_9Gf3Kd7Ls1Pz5Xc8Vb2Nm4",
                 *       "device": {
                 *         "name": "Chrome on Windows",
                 *         "browser": "Chrome",
                 *         "os": "Windows",
                 *         "kind": "desktop"
                 *       }
                 *     }
                 */
                "application/json": components["schemas"]["AcquireBody"];
            };
        };
        responses: {
            /** @description Done. */
            201: {
                headers: {
                    /** @description `true`: this is the first answer to a request that came again. */
                    "Idempotency-Replayed"?: "true";
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true,
                     *       "data": {
                     *         "leaseId": "lse_5Yb8Nw1Qe7Rt4Ui0Op2As6",
                     *         "token": "sjl_gqd2ZXJzaW9uAadwb29sX2lk",
                     *         "fence": 4711,
                     *         "heartbeatInterval": 30,
                     *         "lostAfter": 90,
                     *         "expiresIn": 90,
                     *         "resumed": false
                     *       },
                     *       "message": "Done."
                     *     }
                     */
                    "application/json": components["schemas"]["Done_SeatBody_"];
                };
            };
        };
    };
    heartbeat: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: {
            content: {
                /**
                 * @example {
                 *       "token": "sjs_0123456789012345678901234567890123456789012345678"
                 *     }
                 */
                "application/json": components["schemas"]["HeartbeatBody"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true,
                     *       "data": {
                     *         "expiresIn": 90,
                     *         "state": "active"
                     *       },
                     *       "message": "Done."
                     *     }
                     */
                    "application/json": components["schemas"]["Done_BeatBody_"];
                };
            };
        };
    };
    release: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true,
                     *       "data": {
                     *         "released": true
                     *       },
                     *       "message": "Done."
                     *     }
                     */
                    "application/json": components["schemas"]["Done_ReleasedBody_"];
                };
            };
        };
    };
    list_sessions: {
        parameters: {
            query?: {
                userId?: string;
                after?: string;
                limit?: number;
                newestFirst?: boolean;
                data?: boolean;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true,
                     *       "data": {
                     *         "items": [
                     *           {
                     *             "id": "ses_9Gf3Kd7Ls1Pz5Xc8Vb2Nm4",
                     *             "userId": "ada",
                     *             "revision": 3,
                     *             "createdAt": "2026-11-30T09:12:41.218Z",
                     *             "authenticatedAt": "2026-11-30T09:12:41.218Z",
                     *             "lastUsedAt": "2026-11-30T09:30:00.000Z",
                     *             "at": "2026-11-30T09:30:00.000Z",
                     *             "expiresIn": 604800,
                     *             "idleIn": 86400,
                     *             "idleTimeout": 86400,
                     *             "level": 1,
                     *             "data": {
                     *               "cart": [
                     *                 "book"
                     *               ],
                     *               "locale": "en"
                     *             },
                     *             "name": "Kitchen tablet",
                     *             "device": {
                     *               "name": "Chrome on Windows",
                     *               "browser": "Chrome",
                     *               "os": "Windows",
                     *               "kind": "desktop",
                     *               "place": "Oslo, Norway"
                     *             }
                     *           }
                     *         ],
                     *         "next": null
                     *       },
                     *       "message": "Done."
                     *     }
                     */
                    "application/json": components["schemas"]["Done_Page_SessionBody__"];
                };
            };
        };
    };
    begin_session: {
        parameters: {
            query?: never;
            header?: {
                /** @description Names this request, of all that its caller sends: a UUID. A copy under the same key, within 10 minutes, is given the first answer, and does nothing. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: {
            content: {
                /**
                 * @example {
                 *       "userId": "ada",
                 *       "data": {
                 *         "cart": [
                 *           "book"
                 *         ],
                 *         "locale": "en"
                 *       },
                 *       "timeouts": "default",
                 *       "device": {
                 *         "name": "Chrome on Windows",
                 *         "browser": "Chrome",
                 *         "os": "Windows",
                 *         "kind": "desktop",
                 *         "place": "Oslo, Norway"
                 *       },
                 *       "level": 1,
                 *       "limit": 3,
                 *       "atLimit": "end_oldest"
                 *     }
                 */
                "application/json": components["schemas"]["BeginBody"];
            };
        };
        responses: {
            /** @description Done. */
            201: {
                headers: {
                    /** @description `true`: this is the first answer to a request that came again. */
                    "Idempotency-Replayed"?: "true";
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true,
                     *       "data": {
                     *         "session": {
                     *           "id": "ses_9Gf3Kd7Ls1Pz5Xc8Vb2Nm4",
                     *           "userId": "ada",
                     *           "revision": 3,
                     *           "createdAt": "2026-11-30T09:12:41.218Z",
                     *           "authenticatedAt": "2026-11-30T09:12:41.218Z",
                     *           "lastUsedAt": "2026-11-30T09:30:00.000Z",
                     *           "at": "2026-11-30T09:30:00.000Z",
                     *           "expiresIn": 604800,
                     *           "idleIn": 86400,
                     *           "idleTimeout": 86400,
                     *           "level": 1,
                     *           "data": {
                     *             "cart": [
                     *               "book"
                     *             ],
                     *             "locale": "en"
                     *           },
                     *           "name": "Kitchen tablet",
                     *           "device": {
                     *             "name": "Chrome on Windows",
                     *             "browser": "Chrome",
                     *             "os": "Windows",
                     *             "kind": "desktop",
                     *             "place": "Oslo, Norway"
                     *           }
                     *         },
                     *         "token": "sjs_0123456789012345678901234567890123456789012345678"
                     *       },
                     *       "message": "Done."
                     *     }
                     */
                    "application/json": components["schemas"]["Done_BegunAnswer_"];
                };
            };
        };
    };
    check_session: {
        parameters: {
            query?: {
                touch?: boolean;
                adopted?: boolean;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true,
                     *       "data": {
                     *         "session": {
                     *           "id": "ses_9Gf3Kd7Ls1Pz5Xc8Vb2Nm4",
                     *           "userId": "ada",
                     *           "revision": 3,
                     *           "createdAt": "2026-11-30T09:12:41.218Z",
                     *           "authenticatedAt": "2026-11-30T09:12:41.218Z",
                     *           "lastUsedAt": "2026-11-30T09:30:00.000Z",
                     *           "at": "2026-11-30T09:30:00.000Z",
                     *           "expiresIn": 604800,
                     *           "idleIn": 86400,
                     *           "idleTimeout": 86400,
                     *           "level": 1,
                     *           "data": {
                     *             "cart": [
                     *               "book"
                     *             ],
                     *             "locale": "en"
                     *           },
                     *           "name": "Kitchen tablet",
                     *           "device": {
                     *             "name": "Chrome on Windows",
                     *             "browser": "Chrome",
                     *             "os": "Windows",
                     *             "kind": "desktop",
                     *             "place": "Oslo, Norway"
                     *           }
                     *         }
                     *       },
                     *       "message": "Done."
                     *     }
                     */
                    "application/json": components["schemas"]["Done_SessionAnswer_"];
                };
            };
        };
    };
    end_current: {
        parameters: {
            query?: never;
            header?: {
                /** @description Names this request, of all that its caller sends: a UUID. A copy under the same key, within 10 minutes, is given the first answer, and does nothing. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: {
            content: {
                /**
                 * @example {
                 *       "reason": "signed_out"
                 *     }
                 */
                "application/json": components["schemas"]["EndBody"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description `true`: this is the first answer to a request that came again. */
                    "Idempotency-Replayed"?: "true";
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true,
                     *       "data": {
                     *         "ended": 1
                     *       },
                     *       "message": "Done."
                     *     }
                     */
                    "application/json": components["schemas"]["Done_EndedAnswer_"];
                };
            };
        };
    };
    save_current: {
        parameters: {
            query?: never;
            header?: {
                /** @description Names this request, of all that its caller sends: a UUID. A copy under the same key, within 10 minutes, is given the first answer, and does nothing. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "set": {
                 *         "cart": [
                 *           "book",
                 *           "pen"
                 *         ]
                 *       },
                 *       "unset": [
                 *         "coupon"
                 *       ]
                 *     }
                 */
                "application/json": components["schemas"]["SaveBody"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description `true`: this is the first answer to a request that came again. */
                    "Idempotency-Replayed"?: "true";
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true,
                     *       "data": {
                     *         "revision": 3
                     *       },
                     *       "message": "Done."
                     *     }
                     */
                    "application/json": components["schemas"]["Done_SavedAnswer_"];
                };
            };
        };
    };
    rotate_current: {
        parameters: {
            query?: never;
            header?: {
                /** @description Names this request, of all that its caller sends: a UUID. A copy under the same key, within 10 minutes, is given the first answer, and does nothing. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: {
            content: {
                /**
                 * @example {
                 *       "grace": 20,
                 *       "level": 1,
                 *       "token": "sjs_0123456789012345678901234567890123456789012345678"
                 *     }
                 */
                "application/json": components["schemas"]["RotateBody"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description `true`: this is the first answer to a request that came again. */
                    "Idempotency-Replayed"?: "true";
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true,
                     *       "data": {
                     *         "session": {
                     *           "id": "ses_9Gf3Kd7Ls1Pz5Xc8Vb2Nm4",
                     *           "userId": "ada",
                     *           "revision": 3,
                     *           "createdAt": "2026-11-30T09:12:41.218Z",
                     *           "authenticatedAt": "2026-11-30T09:12:41.218Z",
                     *           "lastUsedAt": "2026-11-30T09:30:00.000Z",
                     *           "at": "2026-11-30T09:30:00.000Z",
                     *           "expiresIn": 604800,
                     *           "idleIn": 86400,
                     *           "idleTimeout": 86400,
                     *           "level": 1,
                     *           "data": {
                     *             "cart": [
                     *               "book"
                     *             ],
                     *             "locale": "en"
                     *           },
                     *           "name": "Kitchen tablet",
                     *           "device": {
                     *             "name": "Chrome on Windows",
                     *             "browser": "Chrome",
                     *             "os": "Windows",
                     *             "kind": "desktop",
                     *             "place": "Oslo, Norway"
                     *           }
                     *         },
                     *         "token": "sjs_0123456789012345678901234567890123456789012345678"
                     *       },
                     *       "message": "Done."
                     *     }
                     */
                    "application/json": components["schemas"]["Done_BegunAnswer_"];
                };
            };
        };
    };
    end_others: {
        parameters: {
            query?: never;
            header?: {
                /** @description Names this request, of all that its caller sends: a UUID. A copy under the same key, within 10 minutes, is given the first answer, and does nothing. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: {
            content: {
                /**
                 * @example {
                 *       "reason": "signed_out"
                 *     }
                 */
                "application/json": components["schemas"]["EndBody"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description `true`: this is the first answer to a request that came again. */
                    "Idempotency-Replayed"?: "true";
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true,
                     *       "data": {
                     *         "ended": 1
                     *       },
                     *       "message": "Done."
                     *     }
                     */
                    "application/json": components["schemas"]["Done_EndedAnswer_"];
                };
            };
        };
    };
    end_sessions: {
        parameters: {
            query?: never;
            header?: {
                /** @description Names this request, of all that its caller sends: a UUID. A copy under the same key, within 10 minutes, is given the first answer, and does nothing. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "ids": [
                 *         "ses_9Gf3Kd7Ls1Pz5Xc8Vb2Nm4"
                 *       ],
                 *       "userId": "ada",
                 *       "reason": "signed_out",
                 *       "actor": "key:key_3kZ0p9Qw2Yb7Nf5Tr1Ls8M"
                 *     }
                 */
                "application/json": components["schemas"]["EndManyBody"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description `true`: this is the first answer to a request that came again. */
                    "Idempotency-Replayed"?: "true";
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true,
                     *       "data": {
                     *         "ended": 1,
                     *         "ids": [
                     *           "ses_9Gf3Kd7Ls1Pz5Xc8Vb2Nm4"
                     *         ]
                     *       },
                     *       "message": "Done."
                     *     }
                     */
                    "application/json": components["schemas"]["Done_EndedIdsAnswer_"];
                };
            };
        };
    };
    list_active_sessions: {
        parameters: {
            query?: {
                limit?: number;
                after?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true,
                     *       "data": [
                     *         {
                     *           "id": "ses_9Gf3Kd7Ls1Pz5Xc8Vb2Nm4",
                     *           "name": "Kitchen tablet",
                     *           "device": "Chrome on Windows",
                     *           "browser": "Chrome",
                     *           "os": "Windows",
                     *           "kind": "desktop",
                     *           "ipAddress": "192.0.2.7",
                     *           "location": "Oslo, Norway",
                     *           "lastDevice": null,
                     *           "lastIpAddress": null,
                     *           "lastLocation": null,
                     *           "createdAt": "2026-11-30T09:12:41.218Z",
                     *           "lastUsedAt": "2026-11-30T09:30:00.000Z",
                     *           "expiresAt": "2026-12-07T09:12:41.218Z",
                     *           "isCurrent": true,
                     *           "seats": 1
                     *         }
                     *       ],
                     *       "total": 2,
                     *       "next": null,
                     *       "message": "Done."
                     *     }
                     */
                    "application/json": components["schemas"]["ActiveSessions"];
                };
            };
        };
    };
    end_active_session: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                sessionId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true,
                     *       "data": {
                     *         "ended": 1,
                     *         "seats": 5
                     *       },
                     *       "message": "Done."
                     *     }
                     */
                    "application/json": components["schemas"]["Done_SignedOut_"];
                };
            };
        };
    };
    rename_active_session: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                sessionId: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "name": "Kitchen tablet"
                 *     }
                 */
                "application/json": components["schemas"]["DeviceName"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true,
                     *       "data": {
                     *         "id": "ses_9Gf3Kd7Ls1Pz5Xc8Vb2Nm4",
                     *         "name": "Kitchen tablet"
                     *       },
                     *       "message": "Done."
                     *     }
                     */
                    "application/json": components["schemas"]["Done_Renamed_"];
                };
            };
        };
    };
    end_other_active_sessions: {
        parameters: {
            query?: never;
            header?: {
                /** @description Names this request, of all that its caller sends: a UUID. A copy under the same key, within 10 minutes, is given the first answer, and does nothing. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description `true`: this is the first answer to a request that came again. */
                    "Idempotency-Replayed"?: "true";
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true,
                     *       "data": {
                     *         "ended": 1,
                     *         "seats": 5
                     *       },
                     *       "message": "Done."
                     *     }
                     */
                    "application/json": components["schemas"]["Done_SignedOut_"];
                };
            };
        };
    };
}

/** Every code that a server refuses by. */
export type ServerCode =
    | "allotment_foreign"
    | "authority_unreachable"
    | "body_too_large"
    | "check_unknown"
    | "conflict"
    | "cross_origin"
    | "data_too_large"
    | "delivery_unknown"
    | "feature_unknown"
    | "forbidden"
    | "headers_too_large"
    | "idempotency_key_reused"
    | "internal"
    | "invalid_policy"
    | "invalid_request"
    | "invalid_schedule"
    | "issuer_unavailable"
    | "key_unknown"
    | "lease_ended"
    | "lease_lost"
    | "lease_unknown"
    | "license_expired"
    | "license_not_yet_valid"
    | "license_of_authority"
    | "license_suspended"
    | "license_unknown"
    | "not_authority"
    | "not_dev"
    | "overloaded"
    | "plan_unknown"
    | "reauth_required"
    | "region_recovering"
    | "relay_clock"
    | "relay_cloned"
    | "relay_late"
    | "relay_limit"
    | "relay_protocol"
    | "relay_seats"
    | "relay_unknown"
    | "repair_busy"
    | "request_timeout"
    | "seat_limit"
    | "session_absent"
    | "session_ended"
    | "session_expired"
    | "session_forged"
    | "session_gone"
    | "session_idle"
    | "session_limit"
    | "session_unknown"
    | "shutting_down"
    | "store_broken"
    | "store_unavailable"
    | "token_expired"
    | "token_forged"
    | "token_malformed"
    | "token_wrong_kind"
    | "unauthenticated"
    | "unsupported_media_type"
    | "webhook_unknown";
