<?php
// An application that does with sessions what PHP applications do.
session_start();
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
switch ($path) {
    case '/open':
        // Against fixation, as the manual tells to do at every login.
        $_SESSION['user'] = 'someone';
        session_regenerate_id(true);
        break;
    case '/count':
        if (!isset($_SESSION['user'])) {
            http_response_code(401);
        }
        $_SESSION['count'] = ($_SESSION['count'] ?? 0) + 1;
        break;
    case '/leave':
        // As the manual tells to do at a logout.
        $_SESSION = [];
        $cookie = session_get_cookie_params();
        setcookie(session_name(), '', time() - 42000, $cookie['path'], $cookie['domain'],
            $cookie['secure'], $cookie['httponly']);
        session_destroy();
        break;
}
header('Content-Type: application/json');
echo json_encode(['at' => getenv('INSTANCE'), 'count' => $_SESSION['count'] ?? null]);
